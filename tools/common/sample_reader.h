// Samples from an input, in a format of its kind:
//   text     every line is a text
//   tsv      a header line names the columns `text` (required), `text2` (second sentence of a pair)
//            and `label` (class number or name; may be empty); other columns are ignored, but for
//            `feedback`, as label, where it is asked for
//   numbers  a header line names columns of numbers and `label`, with commas or tabs between them;
//            other columns are ignored where the model names its own
//   float32  no lines and no labels: little-endian numbers, as many a sample as the model takes
//   images   files of pictures: a header line names the columns `path` and `label`, with tabs
//            between them, and others that are ignored; or there is no header, and every line is a
//            path. Paths are relative to the folder of the input. Or the input is a folder of
//            pictures (table_of_folder() in row_parser.h)
//   frames   no lines and no labels: raw RGB, of the size given, a picture after the other
// There is no quoting, and each row has as many fields as the header. Where class names are numbers
// other than the classes' own, labels are taken for names only.
// Every line is a sample, an empty one too, but for empty lines where there are several columns.
// Bytes that are not UTF-8 are passed on (the network replaces them) and counted.
// Thread rule: one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "runtime/network.h"
#include "tools/common/line_reader.h"
#include "tools/common/row_parser.h"

namespace splitee::tools {

enum class InputFormat { kOfModel, kLines, kTsv, kNumbers, kFloats, kImages, kFrames };

// For people: a text as it is, numbers with commas between them, a picture's kind and size.
std::string input_text(const runtime::Input& input);

class SampleReader {
 public:
  // For the model of `info`; kOfModel is kLines, kNumbers or kImages, but a first line that can
  // only be the header of a table is refused then, so that it is not taken for a text, with its
  // labels (in a regular file at once). Reads the header where there is one; fails where a column
  // lacks, or where the model takes another kind of input.
  static Result<SampleReader> open(LineReader lines, InputFormat format,
                                   const runtime::NetworkInfo& info, bool feedback = false,
                                   FrameSize frame = {});

  // A line that is no sample is empty, or cannot be read: bad_row() then says which and why.
  enum class Row { kSample, kNoSample, kEnd };
  // Takes one line. An input that cannot be read on is an error.
  Result<Row> next_row(Sample& sample);
  // Takes back the sample that next_row() has just given out: it turned out to be none, for this
  // reason. bad_row() says so, and the next sample gets its id.
  void refuse(const Status& status);
  // Of the line last taken; empty if nothing is wrong with it.
  const std::string& bad_row() const { return bad_row_; }
  std::uint64_t bad_rows() const { return bad_rows_; }

  // Fills `sample`; false at the end. A row that cannot be read is an error naming the line.
  Result<bool> next(Sample& sample);

  // Whether next() would return without waiting for input.
  Result<bool> ready() {
    return held_line_ ? Result<bool>(true) : lines_.ready(parser_->row_bytes());
  }

  std::uint64_t invalid_utf8() const { return invalid_utf8_; }
  const LineReader& lines() const { return lines_; }

 private:
  SampleReader(LineReader lines, std::unique_ptr<RowParser> parser, runtime::InputKind kind)
      : lines_(std::move(lines)), parser_(std::move(parser)), kind_(kind) {}
  Status read_header();
  Status hold_first_line();
  Result<std::optional<std::string_view>> next_line();
  // With the input's name and the line's number.
  Status placed(const Status& status) const;

  LineReader lines_;
  std::unique_ptr<RowParser> parser_;
  runtime::InputKind kind_;
  bool looks_for_header_ = false;
  std::optional<std::string> held_line_, last_line_;
  std::uint64_t next_id_ = 0;
  std::uint64_t invalid_utf8_ = 0, bad_rows_ = 0;
  std::string bad_row_;
};

}  // namespace splitee::tools
