// What the kernel lets a process do from now on, by Landlock
// (https://docs.kernel.org/userspace-api/landlock.html): a server that somebody broke into reads no
// other files, writes none, starts no program and calls nobody. Thread rule: before the process has
// other threads, which the kernel would not hold to it. It cannot be undone.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace splitee::tools {

// Absolute or relative paths of files and folders; a folder stands for all within it. What does not
// exist is left out.
struct LandlockRules {
  std::vector<std::string> readable;
  std::vector<std::string> socket_folders;  // where sockets may be made and removed
};

// The folders and files that a program reads after its start: libraries, names of hosts, what the
// kernel tells of it.
std::vector<std::string> system_paths();

// The folder of a file by its name, and that of the file it leads to by links: where another one
// may take its place.
std::vector<std::string> folders_of(const std::string& file);

// What may be read and where sockets may be made; all other files, programs, and (from Linux 6.7
// on) connections over TCP that this process begins are refused. False where this kernel has no
// Landlock; an error where it has and fails.
Result<bool> restrict_process(const LandlockRules& rules);

}  // namespace splitee::tools
