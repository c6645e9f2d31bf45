#include "tools/splitee/compressed_file.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <span>

#include <zstd.h>

#include "base/file.h"
#include "tools/common/console.h"

namespace splitee::tools {

namespace {

constexpr int kLevel = 9;
// A small file is not to take all memory: so much text may come out of any file, and beyond it so
// many times the file's size, where traces have 5.
constexpr std::uint64_t kAnyRatioBytes = 256 << 20;
constexpr std::uint64_t kMaxRatio = 200;

bool is_compressed(const std::string& path) {
  return path.ends_with(".zst");
}

Status bad(const std::string& path, const std::string& what) {
  return Status(Code::kCorrupt, path + ": " + what);
}

Result<std::string> decompress(const std::string& path, const std::string& packed,
                               std::size_t max_bytes) {
  const std::unique_ptr<ZSTD_DStream, std::size_t (*)(ZSTD_DStream*)> stream(ZSTD_createDStream(),
                                                                             ZSTD_freeDStream);
  std::string text, chunk(ZSTD_DStreamOutSize(), '\0');
  ZSTD_inBuffer in{packed.data(), packed.size(), 0};
  std::size_t pending = 0;  // not 0 within a frame
  bool full = false;        // the last chunk was: more may be waiting without more input
  while (in.pos < in.size || full) {
    ZSTD_outBuffer out{chunk.data(), chunk.size(), 0};
    pending = ZSTD_decompressStream(stream.get(), &out, &in);
    if (ZSTD_isError(pending)) return bad(path, std::string("zstd: ") + ZSTD_getErrorName(pending));
    text.append(chunk, 0, out.pos);
    if (text.size() > max_bytes) {
      return bad(path, "more than " + std::to_string(max_bytes) + " bytes of text");
    }
    full = pending != 0 && out.pos == out.size;
  }
  if (pending != 0) return bad(path, "zstd: the last frame is cut off");
  return text;
}

}  // namespace

Result<std::string> read_text_file(const std::string& path, std::size_t max_bytes) try {
  Result<std::string> bytes = read_file(path, max_bytes);
  if (!bytes.ok()) return not_usage(bytes.status());
  if (!is_compressed(path)) return bytes;
  const std::uint64_t plausible = std::max(kAnyRatioBytes, kMaxRatio * bytes->size());
  const auto most = static_cast<std::size_t>(std::min<std::uint64_t>(max_bytes, plausible));
  return decompress(path, *bytes, most);
} catch (const std::bad_alloc&) {
  return Status(Code::kIo, path + ": not enough memory for its text");
}

Status write_text_file(const std::string& path, std::string_view text) {
  if (!is_compressed(path))
    return not_usage(write_file_atomically(path, std::as_bytes(std::span(text))));
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  const std::size_t size =
      ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), kLevel);
  if (ZSTD_isError(size)) {
    return Status(Code::kIo, path + ": zstd: " + ZSTD_getErrorName(size));
  }
  packed.resize(size);
  return not_usage(write_file_atomically(path, std::as_bytes(std::span(packed))));
}

}  // namespace splitee::tools
