#include <iterator>

#include <fmt/format.h>

#include "tools/metrics.h"

namespace splitee::tools {

std::string metrics_text(const transport::ServerCounters& counters, const std::string& model_hash) {
  std::string text;
  const auto out = std::back_inserter(text);
  fmt::format_to(out,
                 "# HELP splitee_model_info The model served.\n# TYPE splitee_model_info gauge\n"
                 "splitee_model_info{{hash=\"{}\"}} 1\n",
                 model_hash);
  const auto counter = [&out](std::string_view name, std::string_view help,
                              const std::atomic<std::uint64_t>& value) {
    fmt::format_to(out, "# HELP splitee_{0}_total {1}\n# TYPE splitee_{0}_total counter\n", name,
                   help);
    fmt::format_to(out, "splitee_{}_total {}\n", name, value.load(std::memory_order_relaxed));
  };
  counter("hellos", "Greetings received.", counters.hellos);
  counter("requests", "Requests received.", counters.requests);
  counter("replies", "Requests answered.", counters.replies);
  counter("refusals", "Requests and greetings refused.", counters.refusals);
  counter("bad_frames", "Messages that break the protocol.", counters.bad_frames);
  counter("expired", "Requests whose deadline passed in the queue.", counters.expired);
  counter("received_bytes", "Bytes of messages received.", counters.bytes_in);
  counter("sent_bytes", "Bytes of messages sent.", counters.bytes_out);
  return text;
}

}  // namespace splitee::tools
