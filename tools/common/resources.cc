#include "tools/common/resources.h"

#include <algorithm>
#include <latch>
#include <system_error>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>

namespace splitee::tools {

namespace {

Status check_descriptors(std::size_t needed) {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return {};
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return {};
  // No further than to as many unused ones: a question for each of 20,000 takes 5 ms.
  std::size_t open = 0, unused = 0;
  for (rlim_t fd = 0; fd < limit.rlim_cur && unused < needed; ++fd) {
    const bool used = ::fcntl(static_cast<int>(fd), F_GETFD) >= 0;
    used ? ++open : ++unused;
  }
  if (unused >= needed) return {};
  return Status(Code::kIo, fmt::format("{} open files are allowed (ulimit -n), but {} are needed",
                                       limit.rlim_cur, open + needed));
}

Status check_bytes(std::size_t bytes) {
  if (bytes == 0) return {};
  void* area =
      ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (area == MAP_FAILED) {
    return Status(
        Code::kIo,
        fmt::format("{} MiB more of address space are needed than are allowed (ulimit -v)",
                    (bytes + (1 << 20) - 1) >> 20));
  }
  ::munmap(area, bytes);
  return {};
}

// All of them at the same time, and the bytes beside them.
Status check_threads(std::size_t count, std::size_t bytes) {
  std::latch end(1);
  std::vector<std::thread> threads;
  Status status;
  try {
    for (std::size_t i = 0; i < count; ++i) threads.emplace_back([&end] { end.wait(); });
    status = check_bytes(bytes);
  } catch (const std::system_error& error) {
    status = Status(Code::kIo,
                    fmt::format("{} threads are needed, but only {} can be started (limits on "
                                "processes, ulimit -u, or on memory, ulimit -v): {}",
                                count, threads.size(), error.code().message()));
  }
  end.count_down();
  for (std::thread& thread : threads) thread.join();
  return status;
}

}  // namespace

Status check_resources(const Needs& needs) {
  if (Status status = check_descriptors(needs.descriptors); !status.ok()) return status;
  return check_threads(needs.threads, needs.bytes);
}

}  // namespace splitee::tools
