// Where libcmwq-preload.so is, and how it gets into LD_PRELOAD.

#ifndef CMWQ_TOOLS_COMMON_PRELOAD_PATH_H_
#define CMWQ_TOOLS_COMMON_PRELOAD_PATH_H_

#include <string>
#include <vector>

namespace cmwq::tools {

// The absolute path of this executable, or an empty string if it cannot be told.
std::string SelfPath();

// The places where the preload may be, in the order of search. CMWQ_PRELOAD, when set, is the only
// one.
std::vector<std::string> PreloadCandidates();

// The first candidate that exists. An empty string, with the reason, if there is none or if the dynamic
// loader could not take its path.
std::string FindPreload(std::string* error);
// The same with the reason as a line on stderr.
std::string FindPreload();

// `existing` (the user's LD_PRELOAD, may be empty) with `preload` in front and nowhere else.
std::string PrependPreload(const std::string& preload, const std::string& existing);

// `existing` without `preload`.
std::string RemovePreload(const std::string& preload, const std::string& existing);

}  // namespace cmwq::tools

#endif  // CMWQ_TOOLS_COMMON_PRELOAD_PATH_H_
