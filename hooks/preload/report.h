// The report that CMWQ_REPORT=1 asks for when the process ends.

#ifndef CMWQ_HOOKS_PRELOAD_REPORT_H_
#define CMWQ_HOOKS_PRELOAD_REPORT_H_

namespace cmwq::preload {

// Context: the constructor. Reads CMWQ_REPORT and CMWQ_REPORT_FILE.
void SetUpReport();

// Writes the report once, to CMWQ_REPORT_FILE (%p: the process id) or to descriptor 2. Nothing
// without SetUpReport(), in a child of vfork(), or the second time.
void ReportAtExit();

// Context: child side of fork(). The child reports for itself.
void RearmReport();

}  // namespace cmwq::preload

#endif  // CMWQ_HOOKS_PRELOAD_REPORT_H_
