// Records on a disk that is full and then has room again.
#include "tools/common/output_file.h"

#include <string>

#include <doctest/doctest.h>

#include "tests/base/file_size_limit.h"
#include "tests/base/temp_folder.h"

namespace splitee::tools {
namespace {

using testing::FileSizeLimit;

TEST_CASE("nothing is written behind a record that did not fit, though it would fit itself") {
  const testing::TempFolder folder;
  const std::string path = folder.file("out"), first(60, 'a'), large(600, 'b'), small(20, 'c');
  Result<OutputFile> output = OutputFile::open(path);
  REQUIRE(output.ok());
  REQUIRE(output->write(first + "\n").ok());
  REQUIRE(output->flush().ok());
  Status full;
  {
    const FileSizeLimit disk(200);
    REQUIRE(output->write(large + "\n").ok());  // kept in memory
    full = output->flush();
    CHECK(!full.ok());
  }
  CHECK(output->failed());
  CHECK(output->records() == 1);
  // The run ends, and the samples in progress come to their records.
  CHECK(output->write(small + "\n").message() == full.message());
  CHECK(output->flush().message() == full.message());
  CHECK(output->close().message() == full.message());
  CHECK(output->records() == 1);
  CHECK(testing::read_plain(path) == first + "\n");
}

}  // namespace
}  // namespace splitee::tools
