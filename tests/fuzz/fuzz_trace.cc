// Trace reader: the input is a CSV.
#include "policy/replay/trace.h"
#include "tests/fuzz/fuzz.h"

using namespace splitee;
using namespace splitee::policy;
using splitee::fuzz::require;

std::vector<std::string> splitee::fuzz::seeds() {
  return {"",
          "label,pred_1,conf_1\n0,1,0.5\n",
          "label,pred_1,conf_1,pred_2,conf_2\r\n,0,1,1,0.25\r\n32767,1,1e-3,0,0.999999\r\n",
          "label,pred_1,conf_1\n1,0,2\n",
          "label,pred_1,conf_1\n-1,0,nan\n",
          "label,pred_1,conf_1\n1,0\n",
          "label,pred_1,pred_2\n"};
}

void splitee::fuzz::repair(std::string&) {}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto trace = parse_trace(splitee::fuzz::text_of(data, size), "T.csv");
  if (!trace.ok()) {
    require(trace.status().message().starts_with("T.csv: "));
    return 0;
  }
  require(trace->samples() > 0 && trace->prediction.size() == trace->samples() * trace->exits);
  require(trace->confidence.size() == trace->prediction.size());
  for (const double confidence : trace->confidence) require(confidence >= 0 && confidence <= 1);
  for (const ClassNumber label : trace->label) require(label >= kNoLabel);
  for (const ClassNumber prediction : trace->prediction) require(prediction >= 0);
  // What was written and read again is the same.
  const auto again = parse_trace(format_trace(*trace), "again");
  require(again.ok() && again->label == trace->label && again->prediction == trace->prediction &&
          again->confidence == trace->confidence);
  return 0;
}
