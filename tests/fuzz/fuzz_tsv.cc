// Lines and TSV: the first byte chooses the format, the rest is the file.
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "tools/common/sample_reader.h"

using namespace splitee;
using namespace splitee::tools;
using splitee::fuzz::require;

std::vector<std::string> splitee::fuzz::seeds() {
  return {"",
          "\1text\tlabel\na b\t1\nc\tpositive\n\t\n",
          "\1label\ttext\ttext2\r\n0\ta\tb\r\n",
          "\1text\ttext\n",
          "\1text\tlabel\nx\t9\n",
          "\1\xef\xbb\xbftext\nabc",
          "\2x,label,y\n1,0,2\n1.5e3 , ,-4\nnan,0,1\n",
          "\6a\tb\n1\t2\n",
          std::string("\3\0\0\x80\x3f\0\0\0\x40\0\0", 11),
          std::string("\0one\ntwo\r\n\n\xff\xfe\nlast", 18)};
}

void splitee::fuzz::repair(std::string&) {}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const int file = ::memfd_create("input", MFD_CLOEXEC);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  if (size == 0) return 0;
  require(::ftruncate(file, 0) == 0);
  require(::pwrite(file, data + 1, size - 1, 0) == static_cast<ssize_t>(size - 1));
  auto lines = LineReader::open(path);
  require(lines.ok());
  const InputFormat formats[] = {InputFormat::kLines, InputFormat::kTsv, InputFormat::kNumbers,
                                 InputFormat::kFloats};
  const InputFormat format = formats[data[0] & 3];
  const bool numbers = format == InputFormat::kNumbers || format == InputFormat::kFloats;
  runtime::NetworkInfo info;
  info.input = numbers ? runtime::InputKind::kNumbers : runtime::InputKind::kText;
  info.labels = {"negative", "positive"};
  info.numbers = 2;
  if ((data[0] & 4) != 0) info.columns = {"b", "a"};
  auto reader = SampleReader::open(std::move(*lines), format, info);
  if (!reader.ok()) return 0;
  Sample sample;
  std::size_t count = 0, bytes = 0;
  for (;;) {
    const auto more = reader->next(sample);
    if (!more.ok()) {
      require(more.status().message().starts_with(
          path + (format == InputFormat::kFloats ? ": frame " : ": line ")));
      break;
    }
    if (!*more) break;
    require(sample.id == count++);
    require(!sample.truth || *sample.truth < 2);
    if (numbers) {
      require(sample.input.bytes.size() == 8);
    } else {
      require(sample.input.bytes.find('\n') == std::string::npos);
      bytes += sample.input.bytes.size();
    }
  }
  require(bytes <= size && count <= size);
  return 0;
}
