// The C interface to attributes: of one unbound queue, of all, and by name.

#include <cmwq/attrs.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "runtime/core/capi.h"
#include "runtime/core/runtime.h"
#include "runtime/wq/attrs.h"

namespace {

using cmwq::core::Fail;
using cmwq::core::Impl;
using cmwq::core::Runtime;
using cmwq::core::Usable;
using cmwq::platform::CpuSet;
using cmwq::platform::Scope;
using cmwq::wq::Workqueue;
using cmwq::wq::WqAttrs;

static_assert(CMWQ_AFFN_DFL == static_cast<int>(Scope::kDefault));
static_assert(CMWQ_AFFN_CACHE_SHARD == static_cast<int>(Scope::kCacheShard));
static_assert(CMWQ_AFFN_SYSTEM == static_cast<int>(Scope::kSystem));

// A whole number and nothing else. False: it is not.
bool Number(const char* text, int* value) {
  char* end = nullptr;
  const int before = errno;  // ours to change only on failure
  const long v = strtol(text, &end, 10);  // out of range: the nearest long, which is no int
  errno = before;
  while (end != text && (*end == '\n' || *end == ' ')) ++end;
  if (end == text || *end != '\0' || v < INT32_MIN || v > INT32_MAX) return false;
  *value = static_cast<int>(v);
  return true;
}

// One attribute by its name. Both are handed a queue for which it exists; store returns 0 or errno.
struct Attribute {
  const char* name;
  bool unbound_only;
  size_t (*show)(Workqueue* wq, char* value, size_t size);
  int (*store)(Workqueue* wq, const char* value);  // null: read only
};

WqAttrs AttrsOf(Workqueue* wq) {
  cmwq::sync::MutexLock hold(wq->pools->mu);
  return wq->attrs;
}

size_t ShowNumber(int number, char* value, size_t size) {
  return cmwq::base::RawFormat(value, size, "%d", number);
}

// A final newline is allowed, as with the other attributes: it is what a shell writes.
bool SetScope(WqAttrs* attrs, const char* value) {
  char name[16];
  const size_t length = strcspn(value, "\n");
  if (length >= sizeof(name) || (value[length] != '\0' && value[length + 1] != '\0')) return false;
  memcpy(name, value, length);
  name[length] = '\0';
  return cmwq::platform::ScopeFromName(name, &attrs->scope);
}

bool SetStrict(WqAttrs* attrs, const char* value) {
  int n;
  if (!Number(value, &n) || (n != 0 && n != 1)) return false;
  attrs->strict = n == 1;
  return true;
}

const Attribute kAttributes[] = {
    {"per_cpu", false,
     [](Workqueue* wq, char* value, size_t size) { return ShowNumber(!wq->unbound(), value, size); },
     nullptr},
    {"max_active", false,
     [](Workqueue* wq, char* value, size_t size) {
       cmwq::sync::MutexLock hold(wq->mutex);
       return ShowNumber(wq->saved_max_active, value, size);
     },
     [](Workqueue* wq, const char* value) {
       int n;
       return Number(value, &n) && n > 0 && SetMaxActive(wq, n) ? 0 : EINVAL;
     }},
    {"min_active", true,
     [](Workqueue* wq, char* value, size_t size) {
       cmwq::sync::MutexLock hold(wq->mutex);
       return ShowNumber(wq->saved_min_active, value, size);
     },
     [](Workqueue* wq, const char* value) {
       int n;
       return Number(value, &n) && SetMinActive(wq, n) ? 0 : EINVAL;
     }},
    {"nice", true,
     [](Workqueue* wq, char* value, size_t size) {
       return ShowNumber(AttrsOf(wq).nice, value, size);
     },
     [](Workqueue* wq, const char* value) {
       return EditAttrs(wq, [](WqAttrs* attrs, const char* v) { return Number(v, &attrs->nice); }, value);
     }},
    {"cpumask", true,
     [](Workqueue* wq, char* value, size_t size) { return AttrsOf(wq).mask.Format(value, size); },
     [](Workqueue* wq, const char* value) {
       return EditAttrs(wq, [](WqAttrs* attrs, const char* v) { return attrs->mask.Parse(v); }, value);
     }},
    {"affinity_scope", true,
     [](Workqueue* wq, char* value, size_t size) {
       return cmwq::base::RawFormat(value, size, "%s", ScopeName(AttrsOf(wq).scope));
     },
     [](Workqueue* wq, const char* value) { return EditAttrs(wq, &SetScope, value); }},
    {"affinity_strict", true,
     [](Workqueue* wq, char* value, size_t size) {
       return ShowNumber(AttrsOf(wq).strict ? 1 : 0, value, size);
     },
     [](Workqueue* wq, const char* value) { return EditAttrs(wq, &SetStrict, value); }},
};

const Attribute* Find(const Workqueue* wq, const char* name) {
  for (const Attribute& a : kAttributes) {
    if (strcmp(a.name, name) == 0 && (wq->unbound() || !a.unbound_only)) return &a;
  }
  return nullptr;
}

}  // namespace

extern "C" {

int cmwq_apply_workqueue_attrs(struct cmwq_workqueue* wq, const struct cmwq_workqueue_attrs* attrs) {
  if (wq == nullptr || attrs == nullptr || !Usable("cmwq_apply_workqueue_attrs", wq)) {
    return Fail(EINVAL);
  }
  if (attrs->affinity_scope < CMWQ_AFFN_DFL || attrs->affinity_scope > CMWQ_AFFN_SYSTEM) {
    return Fail(EINVAL);
  }
  WqAttrs wanted;
  wanted.nice = attrs->nice;
  wanted.scope = static_cast<Scope>(attrs->affinity_scope);
  wanted.strict = attrs->affinity_strict;
  if (attrs->cpumask == nullptr) {
    wanted.mask = CpuSet::First(Impl(wq)->pools->nr_cpu_ids);
  } else if (!wanted.mask.FromMask(attrs->cpumask, attrs->cpumask_size)) {
    return Fail(EINVAL);
  }
  const int err = cmwq::wq::ApplyAttrs(Impl(wq), wanted);
  return err == 0 ? 0 : Fail(err);
}

int cmwq_workqueue_set_unbound_cpumask(const void* cpumask, size_t size) {
  Runtime& r = Runtime::Get();
  int err = r.Start();
  if (err != 0) return Fail(err);
  CpuSet set = CpuSet::First(r.pools()->nr_cpu_ids);
  if (cpumask != nullptr && !set.FromMask(cpumask, size)) return Fail(EINVAL);
  err = r.SetUnboundCpus(set);
  return err == 0 ? 0 : Fail(err);
}

int cmwq_workqueue_set_cpumask(const void* cpumask, size_t size) {
  Runtime& r = Runtime::Get();
  int err = r.Start();
  if (err != 0) return Fail(err);
  CpuSet requested = CpuSet::First(r.pools()->nr_cpu_ids);
  if (cpumask != nullptr) {
    if (!requested.FromMask(cpumask, size)) return Fail(EINVAL);
    err = r.ChangeCpus(nullptr, &requested);
  } else {
    const CpuSet allowed = r.env()->AllowedCpus();
    err = r.ChangeCpus(&allowed, &requested);
  }
  return err == 0 ? 0 : Fail(err);
}

int cmwq_workqueue_attr_show(struct cmwq_workqueue* wq, const char* attribute, char* value,
                             size_t size) {
  const bool usable = wq != nullptr && attribute != nullptr && value != nullptr && size > 0 &&
                      Usable("cmwq_workqueue_attr_show", wq);
  const Attribute* const found = usable ? Find(Impl(wq), attribute) : nullptr;
  if (found == nullptr) return Fail(EINVAL);
  return static_cast<int>(found->show(Impl(wq), value, size));
}

int cmwq_workqueue_attr_store(struct cmwq_workqueue* wq, const char* attribute, const char* value) {
  const bool usable = wq != nullptr && attribute != nullptr && value != nullptr &&
                      Usable("cmwq_workqueue_attr_store", wq);
  const Attribute* const found = usable ? Find(Impl(wq), attribute) : nullptr;
  if (found == nullptr || found->store == nullptr) return Fail(EINVAL);
  const int err = found->store(Impl(wq), value);
  return err == 0 ? 0 : Fail(err);
}

struct cmwq_workqueue* cmwq_find_workqueue(const char* name) {
  Workqueue* found = nullptr;
  if (name == nullptr) return nullptr;
  Runtime::Get().ForEachQueue([&found, name](Workqueue* wq) {
    if (found == nullptr && (wq->flags & CMWQ_SYSFS) != 0 && strcmp(wq->name, name) == 0) found = wq;
  });
  return cmwq::core::Handle(found);
}

}  // extern "C"
