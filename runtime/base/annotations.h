// Clang thread-safety annotations under our own names.
//
// Own macros instead of abseil's header: a parent project that embeds cmwq as a subproject must not
// need libabsl-dev. GCC ignores all of them; the clang build turns each finding into an error.

#ifndef CMWQ_RUNTIME_BASE_ANNOTATIONS_H_
#define CMWQ_RUNTIME_BASE_ANNOTATIONS_H_

#if defined(__clang__)
#define CMWQ_TSA_(x) __attribute__((x))
#else
#define CMWQ_TSA_(x)
#endif

#define CMWQ_CAPABILITY(name) CMWQ_TSA_(capability(name))
#define CMWQ_SCOPED_CAPABILITY CMWQ_TSA_(scoped_lockable)
#define CMWQ_GUARDED_BY(x) CMWQ_TSA_(guarded_by(x))
#define CMWQ_PT_GUARDED_BY(x) CMWQ_TSA_(pt_guarded_by(x))
#define CMWQ_REQUIRES(...) CMWQ_TSA_(requires_capability(__VA_ARGS__))
#define CMWQ_EXCLUDES(...) CMWQ_TSA_(locks_excluded(__VA_ARGS__))
#define CMWQ_ACQUIRE(...) CMWQ_TSA_(acquire_capability(__VA_ARGS__))
#define CMWQ_RELEASE(...) CMWQ_TSA_(release_capability(__VA_ARGS__))
#define CMWQ_TRY_ACQUIRE(...) CMWQ_TSA_(try_acquire_capability(__VA_ARGS__))
#define CMWQ_ASSERT_HELD(x) CMWQ_TSA_(assert_capability(x))
#define CMWQ_RETURN_CAPABILITY(x) CMWQ_TSA_(lock_returned(x))
// Only with a reason beside it.
#define CMWQ_NO_TSA CMWQ_TSA_(no_thread_safety_analysis)

#endif  // CMWQ_RUNTIME_BASE_ANNOTATIONS_H_
