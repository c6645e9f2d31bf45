// What the rows of an input hold: a parser for each kind of input, behind SampleReader. A new kind
// of input is a parser and a word of --input-format.
// Thread rule: one thread at a time. Errors: kCorrupt, without the file and the line.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "runtime/network.h"

namespace splitee::tools {

struct Sample {
  std::uint64_t id = 0;  // 0-based
  runtime::Input input;
  std::optional<std::uint32_t> truth;     // class: the column label
  std::optional<std::uint32_t> feedback;  // class: the column feedback, where that is read
  std::optional<std::int64_t> age_us;     // since it was read, where newer ones overtake it
};

class RowParser {
 public:
  virtual ~RowParser() = default;
  // Bytes of a row; 0: rows are lines.
  virtual std::size_t row_bytes() const { return 0; }
  // A column that the header line must name, for the message where there is no line at all; empty:
  // there is no header.
  virtual std::string wanted_column() const { return {}; }
  // A column feedback is to be read, too; kInvalidArgument where rows have no columns. Before the
  // header.
  virtual Status want_feedback() {
    return {Code::kInvalidArgument, "--feedback needs an --input-format with named columns"};
  }
  virtual Status read_header(std::string_view) { return {}; }
  // Fills input and truth. False for an empty line that is no sample.
  virtual Result<bool> parse(std::string_view row, Sample& sample) = 0;
};

// Every line a text.
std::unique_ptr<RowParser> make_text_lines();
// Columns `text`, `text2`, `label`, with tabs between them.
std::unique_ptr<RowParser> make_text_columns(const runtime::NetworkInfo& info);
// Columns of numbers and `label`, with commas or tabs between them: those that the network names,
// or as many as it takes.
std::unique_ptr<RowParser> make_number_columns(const runtime::NetworkInfo& info);
// No lines: as many little-endian float32 after each other as the network takes.
std::unique_ptr<RowParser> make_float_frames(const runtime::NetworkInfo& info);
// Of raw frames; 0 where there are none.
struct FrameSize {
  std::size_t width = 0, height = 0;
};
// Paths of pictures, one a line, or a table with columns `path` and `label`; relative to `folder`.
// Files of other kinds are no samples.
std::unique_ptr<RowParser> make_image_files(const runtime::NetworkInfo& info, std::string folder);
// A folder as such a table: its pictures (.png, .jpg, .jpeg, .pgm, .ppm, in any case) and those of
// the folders in it, sorted by path, but for names that begin with a dot. Where the folders right
// in it are called as classes are, they are the labels; pictures in no folder have none. Fails
// where there is no picture, or where some folders are called as classes are and others are not.
Result<std::string> table_of_folder(const std::string& folder, const runtime::NetworkInfo& info);
// Whether a file is called as pictures are.
bool names_picture(std::string_view path);
// No lines: raw RGB after each other.
std::unique_ptr<RowParser> make_raw_frames(FrameSize frame);

// --- what parsers of columns share

void split_fields(std::string_view line, char delimiter, std::vector<std::string_view>& fields);
// Its place in the header. Fails where the header names it twice.
Result<std::optional<std::size_t>> find_column(const std::vector<std::string_view>& header,
                                               std::string_view name);

// Class numbers and names. Where names are numbers other than the classes' own, labels are taken
// for names only.
class LabelParser {
 public:
  explicit LabelParser(const runtime::NetworkInfo& info);
  // Nothing for an empty field, and where the network's answers are no classes.
  Result<std::optional<std::uint32_t>> parse(std::string_view field,
                                             std::string_view column = "label") const;

 private:
  std::vector<std::string> labels_;
  bool names_only_ = false;
};

// The column feedback, where it is to be read.
class FeedbackColumn {
 public:
  Status find(const std::vector<std::string_view>& header);
  // Fills feedback; nothing where the column is not read, or the field is empty.
  Status parse(const std::vector<std::string_view>& fields, const LabelParser& labels,
               Sample& sample) const;

 private:
  std::optional<std::size_t> place_;
};

}  // namespace splitee::tools
