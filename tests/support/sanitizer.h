// Which sanitizer the test was built with. GCC defines a macro, clang 14 answers __has_feature.

#ifndef CMWQ_TESTS_SUPPORT_SANITIZER_H_
#define CMWQ_TESTS_SUPPORT_SANITIZER_H_

#if defined(__SANITIZE_THREAD__)
#define CMWQ_TEST_TSAN 1
#elif defined(__SANITIZE_ADDRESS__)
#define CMWQ_TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CMWQ_TEST_TSAN 1
#elif __has_feature(address_sanitizer)
#define CMWQ_TEST_ASAN 1
#endif
#endif

namespace cmwq::test {

#if defined(CMWQ_TEST_TSAN)
inline constexpr bool kTsan = true;
#else
inline constexpr bool kTsan = false;
#endif
#if defined(CMWQ_TEST_TSAN) || defined(CMWQ_TEST_ASAN)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace cmwq::test

#endif  // CMWQ_TESTS_SUPPORT_SANITIZER_H_
