#include "transport/server/heap_watch.h"

#include <vector>

#include <doctest/doctest.h>

namespace splitee::transport {

TEST_CASE("heap watch: what was taken for our own and then freed may not grow again") {
  if (heap_bytes() == 0) return;  // the C library does not tell, or a sanitizer's is used
  constexpr std::uint64_t kMost = 16 << 20, kKept = 48 << 20;
  HeapWatch watch;
  watch.rebase();
  std::vector<char> kept(kKept);
  CHECK(watch.overgrown(0, kMost));
  CHECK_FALSE(watch.overgrown(kKept, kMost));
  watch.rebase();
  CHECK_FALSE(watch.overgrown(0, kMost));
  std::vector<char>().swap(kept);
  CHECK_FALSE(watch.overgrown(0, kMost));
  kept.resize(kKept);
  CHECK(watch.overgrown(0, kMost));
}

}  // namespace splitee::transport
