/* What the public structures promise to their embedders, seen from C. */
#include <cmwq/cmwq.h>
#include <cmwq/io_stream.h>
#include <cmwq/io_work.h>

_Static_assert(sizeof(struct cmwq_work) <= 64, "one cache line");
_Static_assert(sizeof(struct cmwq_delayed_work) <= 128, "two cache lines");
_Static_assert(offsetof(struct cmwq_delayed_work, work) == 0, "casts from the item to the timer");
_Static_assert(sizeof(struct cmwq_io_work) == 256, "as documented");
_Static_assert(offsetof(struct cmwq_io_work, work) == 0, "cmwq_io_work_of casts");
_Static_assert(sizeof(struct cmwq_io_stream) == 320, "as documented");
_Static_assert(offsetof(struct cmwq_io_stream, io_.work) == 0, "cmwq_io_stream_of casts");
_Static_assert(CMWQ_DFL_ACTIVE <= CMWQ_MAX_ACTIVE, "the default is a legal value");
_Static_assert((CMWQ_UNBOUND & CMWQ_FREEZABLE) == 0 && (CMWQ_MEM_RECLAIM & CMWQ_HIGHPRI) == 0 &&
                   (CMWQ_CPU_INTENSIVE & CMWQ_SYSFS) == 0,
               "flags do not overlap");

int main(void) { return 0; }
