#include "policy/replay/trace.h"

#include <string>

#include <doctest/doctest.h>

#include "tests/policy/planted.h"

namespace splitee::policy {
namespace {

const std::string kHeader = "label,pred_1,conf_1,pred_2,conf_2\n";

TEST_CASE("a trace is read as written") {
  const auto trace = parse_trace(kHeader + "1,0,0.5,1,0.75\n,2,1,0,1e-3\r\n0,1,0,1,1.0", "t.csv");
  REQUIRE(trace.ok());
  CHECK(trace->exits == 2);
  CHECK(trace->label == std::vector<ClassNumber>{1, kNoLabel, 0});
  CHECK(trace->prediction == std::vector<ClassNumber>{0, 1, 2, 0, 1, 1});
  CHECK(trace->confidence == std::vector<double>{0.5, 0.75, 1, 0.001, 0, 1});
  CHECK(trace->classes() == 3);
  CHECK(parse_trace(kHeader + "1,0,0.5,1,0.75\n\n", "t.csv").ok());
}

TEST_CASE("a trace of probabilities is one of their largest") {
  const auto trace = parse_trace(
      "\xef\xbb\xbflabel,p_1_1,p_1_2,p_1_3,p_2_1,p_2_2,p_2_3\r\n2,0.2,0.5,0.3,0,0,1\r\n"
      ",0.4,0.4,0.2,0.1,0.1,0.8\r\n",
      "t");
  REQUIRE(trace.ok());
  CHECK(trace->exits == 2);
  CHECK(trace->label == std::vector<ClassNumber>{2, kNoLabel});
  CHECK(trace->prediction == std::vector<ClassNumber>{1, 2, 0, 2});
  CHECK(trace->confidence == std::vector<double>{0.5, 1.0, 0.4, 0.8});
  const std::string header = "label,p_1_1,p_1_2,p_2_1,p_2_2\n";
  for (const auto& [csv, why] : std::vector<std::pair<std::string, std::string>>{
           {header + "0,0.5,0.6,1,0\n", "t: line 2: the probabilities of exit 1 add up to 1.1"},
           {header + "0,0.5,0.5,1\n", "t: line 2: column p_2_2: missing"},
           {header + "0,0.5,0.5,1,nan\n", "t: line 2: column p_2_2: 'nan' is not between"},
           {header + "0,0.5,0.5,1,0,0\n", "t: line 2: more fields than the header's 5"},
           {"label,p_1_1,p_1_2,p_2_1\n0,1,0,1\n", "t: line 1: the header ends before column p_2_2"},
           {"label,p_1_1,p_1_3\n0,1,0\n", "t: line 1: expected column p_1_2, found 'p_1_3'"}}) {
    const auto bad = parse_trace(csv, "t");
    REQUIRE(!bad.ok());
    CHECK(bad.status().message().find(why) == 0);
  }
}

TEST_CASE("a written trace reads back the same") {
  Trace trace = planted_trace({0.2, 0.5, 0.9}, 200);
  trace.label[3] = kNoLabel;
  trace.confidence[4] = 1.0 / 3.0;
  const auto back = parse_trace(format_trace(trace), "t.csv");
  REQUIRE(back.ok());
  CHECK(back->label == trace.label);
  CHECK(back->prediction == trace.prediction);
  CHECK(back->confidence == trace.confidence);

  const std::vector<ClassNumber> prediction = {1, 0};
  const std::vector<float> confidence = {0.1f, 0.7f};
  std::string text = trace_header(2);
  append_trace_row(text, 1, prediction, confidence);
  append_trace_row(text, kNoLabel, prediction, confidence);
  CHECK(text == kHeader + "1,1,0.1,0,0.7\n,1,0.1,0,0.7\n");
}

TEST_CASE("errors name the source, the line and the column") {
  struct Case {
    std::string text;
    std::vector<std::string> words;
  };
  const std::string good = "1,0,0.5,1,0.75\n";
  const Case cases[] = {
      {"", {"line 1", "label"}},
      {"lable,pred_1,conf_1\n", {"line 1", "label", "lable"}},
      {"label\n0\n", {"line 1", "pred_1"}},
      {"label,pred_1\n0,1\n", {"line 1", "conf_1"}},
      {"label,pred_1,conf_1,pred_2\n0,1,1,1\n", {"line 1", "conf_2"}},
      {"label,pred_1,conf_1,conf_2,pred_2\n", {"line 1", "pred_2", "conf_2"}},
      {kHeader, {"no samples"}},
      {kHeader + "\n", {"no samples"}},
      {kHeader + good + "1,0,0.5,1\n", {"line 3", "conf_2", "missing"}},
      {kHeader + good + "1\n", {"line 3", "pred_1", "missing"}},
      {kHeader + good + "\n" + good, {"line 3", "empty"}},
      {kHeader + good + "1,0,0.5,1,0.75,3\n", {"line 3", "more fields"}},
      {kHeader + good + "1,0,0.5,1,0.75,\n", {"line 3", "more fields"}},
      {kHeader + "x,0,0.5,1,0.75\n", {"line 2", "label", "'x'"}},
      {kHeader + "1,zero,0.5,1,0.75\n", {"line 2", "pred_1", "'zero'"}},
      {kHeader + "1,,0.5,1,0.75\n", {"line 2", "pred_1", "''"}},
      {kHeader + "1,0.5,0.5,1,0.75\n", {"line 2", "pred_1", "'0.5'"}},
      {kHeader + "1,-1,0.5,1,0.75\n", {"line 2", "pred_1", "'-1'"}},
      {kHeader + "1,32768,0.5,1,0.75\n", {"line 2", "pred_1", "4095"}},
      {kHeader + "1,4096,0.5,1,0.75\n", {"line 2", "pred_1", "4095"}},
      {kHeader + "4096,1,0.5,1,0.75\n", {"line 2", "label", "4095"}},
      {kHeader + "-1,0,0.5,1,0.75\n", {"line 2", "label"}},
      {kHeader + "1,0,,1,0.75\n", {"line 2", "conf_1", "''"}},
      {kHeader + "1,0,half,1,0.75\n", {"line 2", "conf_1", "'half'"}},
      {kHeader + "1,0,0.5x,1,0.75\n", {"line 2", "conf_1", "'0.5x'"}},
      {kHeader + "1,0,1.5,1,0.75\n", {"line 2", "conf_1", "between 0 and 1"}},
      {kHeader + "1,0,0.5,1,-0.1\n", {"line 2", "conf_2", "between 0 and 1"}},
      {kHeader + "1,0,nan,1,0.1\n", {"line 2", "conf_1", "between 0 and 1"}},
      {kHeader + "1,0,inf,1,0.1\n", {"line 2", "conf_1", "between 0 and 1"}},
      {kHeader + "1,0,1e999,1,0.1\n", {"line 2", "conf_1", "between 0 and 1"}},
  };
  for (const Case& c : cases) {
    CAPTURE(c.text);
    const auto trace = parse_trace(c.text, "some/path.csv");
    REQUIRE(!trace.ok());
    CAPTURE(trace.status().message());
    CHECK(trace.status().message().starts_with("some/path.csv: line "));
    for (const std::string& word : c.words) {
      CHECK(trace.status().message().find(word) != std::string::npos);
    }
  }
}

TEST_CASE("no cut of a trace is misread") {
  const std::string text = format_trace(planted_trace({0.5, 0.5, 0.5}, 3));
  for (std::size_t size = 0; size < text.size(); ++size) {
    const auto trace = parse_trace(std::string_view(text).substr(0, size), "t.csv");
    CHECK((!trace.ok() || trace->confidence.size() == trace->samples() * 3));
  }
}

}  // namespace
}  // namespace splitee::policy
