#include <algorithm>
#include <iterator>
#include <string>

#include <fmt/format.h>

#include "base/hash.h"
#include "tools/server/metrics.h"
#include "transport/wire/wire.h"

namespace splitee::tools {
namespace {

using transport::ServerCounters;
using Value = std::atomic<std::uint64_t>;

// Writes one family after the other, each with its HELP and TYPE lines first.
class Page {
 public:
  std::string take() { return std::move(text_); }

  void family(std::string_view name, std::string_view type, std::string_view help) {
    name_ = name;
    fmt::format_to(out(), "# HELP splitee_{0} {1}\n# TYPE splitee_{0} {2}\n", name, help, type);
  }
  void sample(std::uint64_t value, std::string_view labels = "", std::string_view suffix = "") {
    fmt::format_to(out(), "splitee_{}{}{} {}\n", name_, suffix, labels, value);
  }
  void counter(std::string_view name, std::string_view help, const Value& value) {
    family(fmt::format("{}_total", name), "counter", help);
    sample(value.load(std::memory_order_relaxed));
  }
  void gauge(std::string_view name, std::string_view help, const Value& value) {
    family(name, "gauge", help);
    sample(value.load(std::memory_order_relaxed));
  }
  // `unit` times a value is what is written.
  void histogram(std::string_view name, std::string_view help,
                 const transport::Histogram& histogram, double unit) {
    family(name, "histogram", help);
    std::uint64_t count = 0;
    const auto bounds = histogram.bounds();
    for (std::size_t i = 0; i < bounds.size(); ++i) {
      count += histogram.bucket(i);
      const double bound = unit * static_cast<double>(bounds[i]);
      sample(count, fmt::format("{{le=\"{:g}\"}}", bound), "_bucket");
    }
    count += histogram.bucket(bounds.size());
    sample(count, "{le=\"+Inf\"}", "_bucket");
    fmt::format_to(out(), "splitee_{}_sum {:.6f}\n", name_,
                   unit * static_cast<double>(histogram.sum()));
    sample(count, "", "_count");
  }

 private:
  std::back_insert_iterator<std::string> out() { return std::back_inserter(text_); }

  std::string text_, name_;
};

void add_requests(Page& page, const ServerCounters& counters) {
  page.counter("hellos", "Greetings welcomed.", counters.hellos);
  page.counter("requests", "Requests received.", counters.requests);
  page.counter("replies", "Requests answered.", counters.replies);
  page.counter("refusals", "Requests and greetings refused.", counters.refusals);
  page.family("refused_total", "counter", "Refused messages by the code of the refusal.");
  for (std::size_t code = 1; code < counters.refused_by_code.size(); ++code) {
    std::string word(to_string(static_cast<transport::RefuseCode>(code)));
    std::replace(word.begin(), word.end(), ' ', '_');
    page.sample(counters.refused_by_code[code], fmt::format("{{code=\"{}\"}}", word));
  }
  page.family("shed_total", "counter", "Good requests that were not run, by reason.");
  for (std::size_t i = 0; i < transport::kShedReasons; ++i) {
    page.sample(counters.sheds[i],
                fmt::format("{{reason=\"{}\"}}", to_string(static_cast<transport::Shed>(i))));
  }
  page.counter("bad_frames", "Messages that break the protocol.", counters.bad_frames);
  page.counter("expired", "Requests whose deadline passed before the work.", counters.expired);
  page.counter("undeliverable", "Answers to peers that are gone or do not read.",
               counters.undeliverable);
  page.counter("denied", "Handshakes with a key that is not let in.", counters.denied);
  page.counter("key_over_limit", "Handshakes of a key that has too many connections.",
               counters.key_over_limit);
  page.counter("handshakes_failed", "Handshakes with wrong keys, or that break the protocol.",
               counters.handshakes_failed);
  page.counter("received_bytes", "Bytes of messages received.", counters.bytes_in);
  page.counter("sent_bytes", "Bytes of messages sent.", counters.bytes_out);
}

void add_state(Page& page, const ServerCounters& counters) {
  page.gauge("queue_requests", "Requests that wait.", counters.queued);
  page.gauge("queue_bytes", "Bytes of the requests that wait.", counters.queued_bytes);
  page.gauge("in_flight", "Requests that wait or run.", counters.in_flight);
  page.gauge("sessions", "Edges that have said hello.", counters.sessions);
  page.gauge("connections", "Connections open.", counters.connections);
  page.counter("connections_accepted", "Connections accepted.", counters.connections_accepted);
  page.counter("connections_over_limit", "Connections cut at once: too many.",
               counters.connections_over_limit);
  page.counter("endless_messages", "Connections cut for a message that does not end.",
               counters.endless_messages);
  page.counter("floods", "Connections cut for sending faster than the server reads.",
               counters.floods);
  page.counter("silent_connections", "Connections cut for saying nothing.",
               counters.silent_connections);
  page.counter("renewals", "Times that all connections were closed, to free what ZeroMQ kept.",
               counters.renewals);
}

void add_edges(Page& page, const ServerCounters& counters) {
  const auto edges = counters.edges.entries();
  if (edges.empty()) return;
  const auto each = [&](std::string_view name, std::string_view help,
                        Value transport::EdgeCounters::*value) {
    page.family(fmt::format("edge_{}_total", name), "counter", help);
    for (const auto& edge : edges) {
      page.sample((*edge.*value).load(std::memory_order_relaxed),
                  fmt::format("{{edge=\"{}\"}}", edge->key));
    }
  };
  each("requests", "Requests by the edge's key.", &transport::EdgeCounters::requests);
  each("replies", "Requests answered by the edge's key.", &transport::EdgeCounters::replies);
  each("shed", "Good requests that were not run by the edge's key.",
       &transport::EdgeCounters::sheds);
  each("received_bytes", "Bytes of requests by the edge's key.",
       &transport::EdgeCounters::bytes_in);
}

}  // namespace

std::string metrics_text(const ServerCounters& counters, bool draining) {
  Page page;
  page.family("model_info", "gauge", "The model served.");
  page.sample(1, fmt::format("{{hash=\"{}\"}}", hash_to_string(counters.model_hash)));
  page.family("draining", "gauge", "1 while the server takes no new work before its end.");
  page.sample(draining ? 1 : 0);
  page.counter("reloads", "Changes of the model.", counters.reloads);
  page.counter("failed_reloads", "Models that could not be loaded; the one before stayed.",
               counters.failed_reloads);
  add_requests(page, counters);
  add_state(page, counters);
  page.histogram("batch_size", "Requests that ran together.", counters.batch_size, 1);
  page.histogram("queue_seconds", "Time of a request in the queue.", counters.queue_us, 1e-6);
  page.histogram("service_seconds", "Time of a request's batch on a worker.", counters.service_us,
                 1e-6);
  page.histogram("request_seconds", "Time from receiving a request to its reply.",
                 counters.total_us, 1e-6);
  add_edges(page, counters);
  return page.take();
}

}  // namespace splitee::tools
