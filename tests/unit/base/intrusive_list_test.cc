#include "runtime/base/intrusive_list.h"

#include <gtest/gtest.h>

#include <list>
#include <random>
#include <vector>

namespace cmwq::base {
namespace {

struct Object {
  Object() { ListInit(&node); }
  int before = 1;
  ListNode node;
  int id = 0;
};

Object* OwnerOf(ListNode* node) { return ListOwner<Object>(node, offsetof(Object, node)); }

std::vector<int> Ids(List& list) {
  std::vector<int> ids;
  for (ListNode* n = list.front(); n != nullptr; n = list.next(n)) ids.push_back(OwnerOf(n)->id);
  return ids;
}

class ListTest : public ::testing::Test {
 protected:
  ListTest() {
    for (int i = 0; i < 5; ++i) objects_[i].id = i;
  }
  List list_;
  Object objects_[5];
};

TEST_F(ListTest, StartsEmpty) {
  EXPECT_TRUE(list_.empty());
  EXPECT_EQ(list_.front(), nullptr);
  EXPECT_EQ(list_.back(), nullptr);
  EXPECT_EQ(list_.PopFront(), nullptr);
  EXPECT_FALSE(ListLinked(&objects_[0].node));
}

TEST_F(ListTest, OneObject) {
  list_.PushBack(&objects_[3].node);
  EXPECT_FALSE(list_.empty());
  EXPECT_TRUE(ListLinked(&objects_[3].node));
  EXPECT_EQ(list_.front(), list_.back());
  EXPECT_EQ(list_.next(list_.front()), nullptr);
  EXPECT_EQ(OwnerOf(list_.PopFront()), &objects_[3]);
  EXPECT_TRUE(list_.empty());
  EXPECT_FALSE(ListLinked(&objects_[3].node));
}

TEST_F(ListTest, BothEnds) {
  list_.PushBack(&objects_[1].node);
  list_.PushBack(&objects_[2].node);
  list_.PushFront(&objects_[0].node);
  EXPECT_EQ(Ids(list_), (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(OwnerOf(list_.back())->id, 2);
}

TEST_F(ListTest, InsertBeforeAndUnlinkInTheMiddle) {
  for (int i : {0, 1, 3}) list_.PushBack(&objects_[i].node);
  ListInsertBefore(&objects_[3].node, &objects_[2].node);
  ListInsertBefore(list_.head(), &objects_[4].node);
  EXPECT_EQ(Ids(list_), (std::vector<int>{0, 1, 2, 3, 4}));
  for (int i : {2, 0, 4}) ListUnlink(&objects_[i].node);
  EXPECT_EQ(Ids(list_), (std::vector<int>{1, 3}));
}

TEST_F(ListTest, UnlinkTwiceIsHarmless) {
  list_.PushBack(&objects_[0].node);
  ListUnlink(&objects_[0].node);
  ListUnlink(&objects_[0].node);
  EXPECT_TRUE(list_.empty());
}

TEST_F(ListTest, AgreesWithTheStandardList) {
  std::mt19937 random(7);
  std::list<int> model;
  for (int step = 0; step < 5000; ++step) {
    const int i = static_cast<int>(random() % 5);
    ListNode* const node = &objects_[i].node;
    if (ListLinked(node)) {
      ListUnlink(node);
      model.remove(i);
    } else if (random() % 2 == 0) {
      list_.PushFront(node);
      model.push_front(i);
    } else {
      list_.PushBack(node);
      model.push_back(i);
    }
    ASSERT_EQ(Ids(list_), std::vector<int>(model.begin(), model.end())) << "step " << step;
    ASSERT_EQ(list_.empty(), model.empty());
  }
}

#if defined(CMWQ_DEBUG)
TEST_F(ListTest, ADoubleInsertIsCaught) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  list_.PushBack(&objects_[0].node);
  EXPECT_DEATH(list_.PushBack(&objects_[0].node), "ListLinked");
}
#endif

}  // namespace
}  // namespace cmwq::base
