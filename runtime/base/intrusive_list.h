// Circular doubly linked list whose nodes live in the listed objects: O(1) unlink, no allocation.
//
// Not thread-safe; the owner of the head names the lock. An unlinked node points at itself, so that
// linked() is a plain question and a double insert is caught in debug builds.

#ifndef CMWQ_RUNTIME_BASE_INTRUSIVE_LIST_H_
#define CMWQ_RUNTIME_BASE_INTRUSIVE_LIST_H_

#include <cmwq/cmwq.h>

#include <cstddef>

#include "runtime/base/check.h"

namespace cmwq::base {

// The node is the public header's, so that work items need no conversion.
using ListNode = struct cmwq_list_node;

inline void ListInit(ListNode* node) { node->next = node->prev = node; }
inline bool ListLinked(const ListNode* node) { return node->next != node; }

inline void ListInsertBefore(ListNode* where, ListNode* node) {
  CMWQ_ASSERT(!ListLinked(node));
  CMWQ_ASSERT(where->prev->next == where && "the item behind was freed or reused while pending");
  node->prev = where->prev;
  node->next = where;
  where->prev->next = node;
  where->prev = node;
}

inline void ListUnlink(ListNode* node) {
  CMWQ_ASSERT(node->prev->next == node && node->next->prev == node &&
              "an item was freed or reused while pending");
  node->prev->next = node->next;
  node->next->prev = node->prev;
  ListInit(node);
}

// The object of type T whose member at `offset` is `node`.
template <class T>
inline T* ListOwner(ListNode* node, size_t offset) {
  return reinterpret_cast<T*>(reinterpret_cast<char*>(node) - offset);
}

class List {
 public:
  List() { ListInit(&head_); }
  List(const List&) = delete;
  List& operator=(const List&) = delete;

  bool empty() const { return !ListLinked(&head_); }
  ListNode* head() { return &head_; }
  ListNode* front() { return empty() ? nullptr : head_.next; }
  ListNode* back() { return empty() ? nullptr : head_.prev; }
  // The node after `node`, null at the end.
  ListNode* next(ListNode* node) { return node->next == &head_ ? nullptr : node->next; }
  void PushFront(ListNode* node) { ListInsertBefore(head_.next, node); }
  void PushBack(ListNode* node) { ListInsertBefore(&head_, node); }
  ListNode* PopFront() {
    ListNode* node = front();
    if (node != nullptr) ListUnlink(node);
    return node;
  }

 private:
  ListNode head_;
};

}  // namespace cmwq::base

#endif  // CMWQ_RUNTIME_BASE_INTRUSIVE_LIST_H_
