#include "runtime/base/test_point.h"

#if defined(CMWQ_TEST_POINTS)
namespace cmwq::base {
void (*g_test_point)(const char* name) = nullptr;
constinit std::atomic<void (*)(const char* where, void* locked)> g_verify{nullptr};
}  // namespace cmwq::base
#endif
