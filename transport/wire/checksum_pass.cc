#include "transport/wire/checksum_pass.h"

#include <bit>
#include <cstring>
#include <vector>

namespace splitee::transport {

static_assert(std::endian::native == std::endian::little, "words are read as they lie in memory");

namespace {

// Only such functions may be inlined into those that are compiled for more than the oldest CPU.
#define SPLITEE_ALWAYS_INLINE inline __attribute__((always_inline))

constexpr std::uint32_t kExponentBits = 0x7f800000u;
constexpr std::uint32_t kExponentOne = 0x00800000u;

// `kInterleaved` groups side by side, in vectors of kWidth bytes. Each of the interleaved streams
// is summed up as if it were alone; join() makes the sums of all groups from them.
template <std::size_t kWidth, std::size_t kInterleaved>
struct Streams {
  typedef std::uint64_t Pairs __attribute__((vector_size(kWidth)));
  typedef std::uint32_t Words __attribute__((vector_size(kWidth)));
  static constexpr std::size_t kBlock = kInterleaved * kGroupBytes;
  static constexpr std::size_t kVectors = kBlock / kWidth;
  using Values = std::array<std::uint64_t, kBlock / 8>;

  Values pairs, odd, pairs_sum, odd_sum;
  std::uint32_t carries = 0;

  template <bool kCopy>
  SPLITEE_ALWAYS_INLINE void run(const std::byte* in, std::byte* out, std::size_t blocks) {
    Pairs a[kVectors] = {}, o[kVectors] = {}, a_sum[kVectors] = {}, o_sum[kVectors] = {};
    Words carry = {};
    for (std::size_t block = 0; block < blocks; ++block) {
      for (std::size_t i = 0; i < kVectors; ++i) {
        const std::size_t offset = block * kBlock + i * kWidth;
        Pairs p;
        std::memcpy(&p, in + offset, kWidth);
        if constexpr (kCopy) std::memcpy(out + offset, &p, kWidth);
        a[i] += p;
        o[i] += p >> 32;
        a_sum[i] += a[i];
        o_sum[i] += o[i];
        // An exponent of all ones carries into the sign bit when one is added.
        carry |= (reinterpret_cast<Words>(p) & kExponentBits) + kExponentOne;
      }
    }
    std::memcpy(pairs.data(), a, sizeof a);
    std::memcpy(odd.data(), o, sizeof o);
    std::memcpy(pairs_sum.data(), a_sum, sizeof a_sum);
    std::memcpy(odd_sum.data(), o_sum, sizeof o_sum);
    std::array<std::uint32_t, kWidth / sizeof(std::uint32_t)> words;
    std::memcpy(words.data(), &carry, sizeof carry);
    for (const std::uint32_t word : words) carries |= word;
  }

  // A word of group j of n counts n - j times in the sum of sums. The stream s, of groups j =
  // kInterleaved * i + s, has counted it n / kInterleaved - i times.
  static void join(const Values& sum, const Values& sum_of_sums, std::size_t groups,
                   GroupSums::Lanes& to, GroupSums::Lanes& to_sums) {
    for (std::size_t lane = 0; lane < to.size(); ++lane) {
      to_sums[lane] += groups * to[lane];
      for (std::size_t s = 0; s < kInterleaved; ++s) {
        const std::size_t i = s * to.size() + lane;
        to[lane] += sum[i];
        to_sums[lane] += kInterleaved * sum_of_sums[i] - s * sum[i];
      }
    }
  }

  void join(std::size_t groups, GroupSums& sums) const {
    join(pairs, pairs_sum, groups, sums.pairs, sums.pairs_sum);
    join(odd, odd_sum, groups, sums.odd, sums.odd_sum);
    sums.finite = sums.finite && (carries >> 31) == 0;
  }
};

template <std::size_t kWidth, std::size_t kInterleaved>
SPLITEE_ALWAYS_INLINE void add_blocks(const std::byte* in, std::byte* out, std::size_t groups,
                                      GroupSums& sums) {
  const std::size_t blocks = groups / kInterleaved;
  Streams<kWidth, kInterleaved> streams;
  if (out != nullptr) {
    streams.template run<true>(in, out, blocks);
  } else {
    streams.template run<false>(in, out, blocks);
  }
  streams.join(blocks * kInterleaved, sums);
}

void pass_128(const std::byte* in, std::byte* out, std::size_t groups, GroupSums& sums) {
  add_blocks<16, 1>(in, out, groups, sums);
}

#if defined(__x86_64__)
// A group that is left over, after an even number of them.
void add_last(const std::byte* in, std::byte* out, std::size_t groups, GroupSums& sums) {
  if (groups % 2 == 0) return;
  const std::size_t offset = (groups - 1) * kGroupBytes;
  pass_128(in + offset, out != nullptr ? out + offset : nullptr, 1, sums);
}

__attribute__((target("avx2"))) void pass_avx2(const std::byte* in, std::byte* out,
                                               std::size_t groups, GroupSums& sums) {
  add_blocks<32, 2>(in, out, groups, sums);
  add_last(in, out, groups, sums);
}

__attribute__((target("avx512f"))) void pass_avx512(const std::byte* in, std::byte* out,
                                                    std::size_t groups, GroupSums& sums) {
  add_blocks<64, 2>(in, out, groups, sums);
  add_last(in, out, groups, sums);
}
#endif

std::vector<NamedPass> find_passes() {
  std::vector<NamedPass> passes;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) passes.push_back({"avx512", pass_avx512});
  if (__builtin_cpu_supports("avx2")) passes.push_back({"avx2", pass_avx2});
#endif
  passes.push_back({"128 bits", pass_128});
  return passes;
}

}  // namespace

std::span<const NamedPass> checksum_passes() {
  static const std::vector<NamedPass> passes = find_passes();
  return passes;
}

}  // namespace splitee::transport
