// Samples from lines of text, or from TSV: a header line names the columns `text` (required),
// `text2` (second sentence of a pair) and `label` (class number or name; may be empty); other
// columns are ignored, there is no quoting, and each row has as many fields as the header. Where
// class names are numbers other than the classes' own, labels are taken for names only.
// Every line is a sample, an empty one too, but for empty lines where there are several columns.
// Bytes that are not UTF-8 are passed on (the tokenizer replaces them) and counted.
// Thread rule: one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/status.h"
#include "tools/line_reader.h"

namespace splitee::tools {

enum class InputFormat { kLines, kTsv };

struct Sample {
  std::size_t id = 0;  // 0-based
  std::string text;
  std::optional<std::string> text2;
  std::optional<std::uint32_t> truth;  // class
};

class SampleReader {
 public:
  // `labels` are the model's class names. Reads the header of a TSV; fails without column `text`.
  static runtime::Result<SampleReader> open(LineReader lines, InputFormat format,
                                            std::vector<std::string> labels);

  // A line that is no sample is empty, or cannot be read: bad_row() then says which and why.
  enum class Row { kSample, kNoSample, kEnd };
  // Takes one line. An input that cannot be read on is an error.
  runtime::Result<Row> next_row(Sample& sample);
  // Of the line last taken; empty if nothing is wrong with it.
  const std::string& bad_row() const { return bad_row_; }
  std::uint64_t bad_rows() const { return bad_rows_; }

  // Fills `sample`; false at the end. A row that cannot be read is an error naming the line.
  runtime::Result<bool> next(Sample& sample);

  // Whether next() would return without waiting for input.
  runtime::Result<bool> ready() { return lines_.ready(); }

  std::uint64_t invalid_utf8() const { return invalid_utf8_; }
  const LineReader& lines() const { return lines_; }

 private:
  SampleReader(LineReader lines, std::vector<std::string> labels);
  runtime::Status read_header();
  runtime::Status read_row(std::string_view line, Sample& sample);
  runtime::Result<std::optional<std::uint32_t>> read_label(std::string_view field) const;
  runtime::Status error(const std::string& what) const;

  LineReader lines_;
  std::vector<std::string> labels_;
  bool names_only_ = false;  // labels are not read as class numbers
  bool tsv_ = false;
  std::size_t columns_ = 0;
  std::size_t text_column_ = 0;
  std::optional<std::size_t> text2_column_, label_column_;
  std::vector<std::string_view> fields_;
  std::size_t next_id_ = 0;
  std::uint64_t invalid_utf8_ = 0, bad_rows_ = 0;
  std::string bad_row_;
};

}  // namespace splitee::tools
