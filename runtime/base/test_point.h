// Named places at which a test may pause, yield, fail or count. Compiled to nothing unless
// CMWQ_TEST_POINTS is defined (debug and sanitizer builds of the test suite).

#ifndef CMWQ_RUNTIME_BASE_TEST_POINT_H_
#define CMWQ_RUNTIME_BASE_TEST_POINT_H_

#if defined(CMWQ_TEST_POINTS)
namespace cmwq::base {
// Set by tests before threads start, null otherwise. Must not take engine locks.
extern void (*g_test_point)(const char* name);
}  // namespace cmwq::base
#define CMWQ_TEST_POINT(name)                                                     \
  do {                                                                            \
    if (::cmwq::base::g_test_point != nullptr) ::cmwq::base::g_test_point(name);  \
  } while (0)
#else
#define CMWQ_TEST_POINT(name) \
  do {                        \
  } while (0)
#endif

#endif  // CMWQ_RUNTIME_BASE_TEST_POINT_H_
