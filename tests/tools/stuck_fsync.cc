// To be preloaded: fsync() that comes back only once the file named by STUCK_FSYNC is gone, as on a
// disk or a network file system that does not answer.
#include <cstdlib>

#include <sys/syscall.h>
#include <unistd.h>

extern "C" int fsync(int descriptor) {
  const char* gate = std::getenv("STUCK_FSYNC");
  while (gate != nullptr && ::access(gate, F_OK) == 0) ::usleep(10'000);
  return static_cast<int>(::syscall(SYS_fsync, descriptor));
}
