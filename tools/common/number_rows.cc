#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "tools/common/row_parser.h"

namespace splitee::tools {
namespace {

constexpr std::size_t kMostShown = 40;

Status corrupt(std::string what) {
  return Status(Code::kCorrupt, std::move(what));
}

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

// Nothing where the text is no number, or not a finite one.
std::optional<float> parse_float(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  float value = 0;
  const auto [stop, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = problem == std::errc() && stop == text.data() + text.size();
  if (!whole || !std::isfinite(value)) return std::nullopt;
  return value;
}

class NumberColumns final : public RowParser {
 public:
  explicit NumberColumns(const runtime::NetworkInfo& info)
      : names_(info.columns), numbers_(info.numbers), labels_(info) {}

  std::string wanted_column() const override {
    return names_.empty() ? "for each number" : names_.front();
  }

  Status want_feedback() override {
    wants_feedback_ = true;
    return {};
  }

  Status read_header(std::string_view line) override {
    delimiter_ = line.find('\t') != std::string_view::npos ? '\t' : ',';
    split_fields(line, delimiter_, fields_);
    for (std::string_view& field : fields_) field = trimmed(field);
    columns_ = fields_.size();
    const auto label = find_column(fields_, "label");
    if (!label.ok()) return label.status();
    label_ = *label;
    if (wants_feedback_) {
      if (Status status = feedback_.find(fields_); !status.ok()) return status;
    }
    header_.assign(fields_.begin(), fields_.end());
    return names_.empty() ? take_all() : take_named();
  }

  Result<bool> parse(std::string_view row, Sample& sample) override {
    if (row.empty()) return false;
    split_fields(row, delimiter_, fields_);
    if (fields_.size() != columns_) {
      return corrupt(
          fmt::format("{} field(s), but the header names {} columns", fields_.size(), columns_));
    }
    sample.input.bytes.resize(places_.size() * sizeof(float));
    for (std::size_t i = 0; i < places_.size(); ++i) {
      const std::string_view field = trimmed(fields_[places_[i]]);
      const std::optional<float> value = parse_float(field);
      if (!value) {
        return corrupt(fmt::format("column '{}': '{}' is not a finite number", header_[places_[i]],
                                   field.substr(0, kMostShown)));
      }
      std::memcpy(sample.input.bytes.data() + i * sizeof(float), &*value, sizeof(float));
    }
    for (std::string_view& field : fields_) field = trimmed(field);
    if (Status status = feedback_.parse(fields_, labels_, sample); !status.ok()) return status;
    if (!label_) return true;
    Result<std::optional<std::uint32_t>> truth = labels_.parse(trimmed(fields_[*label_]));
    if (!truth.ok()) return truth.status();
    sample.truth = *truth;
    return true;
  }

 private:
  // Columns in the order that the network names.
  Status take_named() {
    for (const std::string& name : names_) {
      const auto place = find_column(fields_, name);
      if (!place.ok()) return place.status();
      if (!*place) return corrupt(fmt::format("the header names no column '{}'", name));
      places_.push_back(**place);
    }
    return {};
  }
  // All but the label and feedback, as they come.
  Status take_all() {
    for (std::size_t i = 0; i < columns_; ++i) {
      if (i != label_ && !(wants_feedback_ && fields_[i] == "feedback")) places_.push_back(i);
    }
    if (places_.size() == numbers_) return {};
    return corrupt(fmt::format("the header names {} columns besides 'label'; the model takes {}",
                               places_.size(), numbers_));
  }

  const std::vector<std::string> names_;
  const std::size_t numbers_;
  LabelParser labels_;
  char delimiter_ = ',';
  std::size_t columns_ = 0;
  std::optional<std::size_t> label_;
  bool wants_feedback_ = false;
  FeedbackColumn feedback_;
  std::vector<std::size_t> places_;  // of the numbers
  std::vector<std::string> header_;
  std::vector<std::string_view> fields_;
};

class FloatFrames final : public RowParser {
 public:
  explicit FloatFrames(const runtime::NetworkInfo& info) : numbers_(info.numbers) {}

  std::size_t row_bytes() const override { return numbers_ * sizeof(float); }

  Result<bool> parse(std::string_view row, Sample& sample) override {
    for (std::size_t i = 0; i < numbers_; ++i) {
      float value;
      std::memcpy(&value, row.data() + i * sizeof value, sizeof value);
      if (!std::isfinite(value)) return corrupt(fmt::format("number {} is not finite", i + 1));
    }
    sample.input.bytes.assign(row);
    return true;
  }

 private:
  const std::size_t numbers_;
};

}  // namespace

std::unique_ptr<RowParser> make_number_columns(const runtime::NetworkInfo& info) {
  return std::make_unique<NumberColumns>(info);
}

std::unique_ptr<RowParser> make_float_frames(const runtime::NetworkInfo& info) {
  return std::make_unique<FloatFrames>(info);
}

}  // namespace splitee::tools
