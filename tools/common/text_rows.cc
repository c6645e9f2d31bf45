#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "tools/common/row_parser.h"

namespace splitee::tools {
namespace {

Status corrupt(std::string what) {
  return Status(Code::kCorrupt, std::move(what));
}

std::optional<std::uint64_t> whole_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto [stop, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (problem != std::errc() || stop != text.data() + text.size()) return std::nullopt;
  return number;
}

class TextLines final : public RowParser {
 public:
  Result<bool> parse(std::string_view row, Sample& sample) override {
    sample.input.bytes.assign(row);
    return true;
  }
};

class TextColumns final : public RowParser {
 public:
  explicit TextColumns(const runtime::NetworkInfo& info) : labels_(info), pairs_(info.pairs) {}

  std::string wanted_column() const override { return "text"; }
  Status want_feedback() override {
    wants_feedback_ = true;
    return {};
  }

  Status read_header(std::string_view line) override {
    split_fields(line, '\t', fields_);
    columns_ = fields_.size();
    if (std::ranges::find(fields_, "text") == fields_.end()) {
      return corrupt("the header names no column 'text'");
    }
    const auto text = find_column(fields_, "text"), second = find_column(fields_, "text2"),
               label = find_column(fields_, "label");
    for (const auto* found : {&text, &second, &label}) {
      if (!found->ok()) return found->status();
    }
    text_ = **text;
    second_ = *second;
    label_ = *label;
    if (wants_feedback_) {
      if (Status status = feedback_.find(fields_); !status.ok()) return status;
    }
    if (!second_ || pairs_) return {};
    return corrupt("column 'text2': the model knows no second text");
  }

  Result<bool> parse(std::string_view row, Sample& sample) override {
    if (row.empty() && columns_ > 1) return false;
    split_fields(row, '\t', fields_);
    if (fields_.size() != columns_) {
      const bool no_text = fields_.size() <= text_;
      return corrupt(fmt::format("{} field(s), but the header names {} columns{}", fields_.size(),
                                 columns_, no_text ? "; column 'text' is missing" : ""));
    }
    sample.input.bytes.assign(fields_[text_]);
    if (second_) sample.input.second = std::string(fields_[*second_]);
    if (Status status = feedback_.parse(fields_, labels_, sample); !status.ok()) return status;
    if (!label_) return true;
    Result<std::optional<std::uint32_t>> truth = labels_.parse(fields_[*label_]);
    if (!truth.ok()) return truth.status();
    sample.truth = *truth;
    return true;
  }

 private:
  LabelParser labels_;
  const bool pairs_;
  std::size_t columns_ = 0, text_ = 0;
  std::optional<std::size_t> second_, label_;
  bool wants_feedback_ = false;
  FeedbackColumn feedback_;
  std::vector<std::string_view> fields_;
};

}  // namespace

void split_fields(std::string_view line, char delimiter, std::vector<std::string_view>& fields) {
  fields.clear();
  for (;;) {
    const std::size_t end = line.find(delimiter);
    fields.push_back(line.substr(0, end));
    if (end == std::string_view::npos) return;
    line.remove_prefix(end + 1);
  }
}

Result<std::optional<std::size_t>> find_column(const std::vector<std::string_view>& header,
                                               std::string_view name) {
  const auto found = std::ranges::find(header, name);
  if (found == header.end()) return std::optional<std::size_t>();
  if (std::count(found, header.end(), name) > 1) {
    return corrupt(fmt::format("the header names column '{}' twice", name));
  }
  return std::optional(static_cast<std::size_t>(found - header.begin()));
}

LabelParser::LabelParser(const runtime::NetworkInfo& info) {
  if (info.output == runtime::Output::kClasses) labels_ = info.labels;
  for (std::size_t i = 0; i < labels_.size(); ++i) {
    const std::optional<std::uint64_t> number = whole_number(labels_[i]);
    if (number && *number != i) names_only_ = true;
  }
}

Result<std::optional<std::uint32_t>> LabelParser::parse(std::string_view field,
                                                        std::string_view column) const {
  if (field.empty() || labels_.empty()) return std::optional<std::uint32_t>();
  const std::optional<std::uint64_t> number = whole_number(field);
  if (!names_only_ && number && *number < labels_.size()) {
    return std::optional(static_cast<std::uint32_t>(*number));
  }
  const auto found = std::ranges::find(labels_, field);
  if (found != labels_.end()) {
    return std::optional(static_cast<std::uint32_t>(found - labels_.begin()));
  }
  std::string names;
  for (const std::string& label : labels_) names += (names.empty() ? "" : ", ") + label;
  const std::string numbers =
      names_only_ ? "not"
                  : fmt::format("neither a class number from 0 to {} nor", labels_.size() - 1);
  return corrupt(fmt::format("column '{}': '{}' is {} one of {}", column, field.substr(0, 40),
                             numbers, names));
}

Status FeedbackColumn::find(const std::vector<std::string_view>& header) {
  const auto place = find_column(header, "feedback");
  if (!place.ok()) return place.status();
  if (!*place) return corrupt("--feedback: the header names no column 'feedback'");
  place_ = *place;
  return {};
}

Status FeedbackColumn::parse(const std::vector<std::string_view>& fields, const LabelParser& labels,
                             Sample& sample) const {
  sample.feedback.reset();
  if (!place_) return {};
  Result<std::optional<std::uint32_t>> truth = labels.parse(fields[*place_], "feedback");
  if (!truth.ok()) return truth.status();
  sample.feedback = *truth;
  return {};
}

std::unique_ptr<RowParser> make_text_lines() {
  return std::make_unique<TextLines>();
}

std::unique_ptr<RowParser> make_text_columns(const runtime::NetworkInfo& info) {
  return std::make_unique<TextColumns>(info);
}

}  // namespace splitee::tools
