// Classifies one sample after the other: tokenise, let the policy's session run layers, exits and
// offloads, account for it.
// Thread rule: one thread. Ownership: borrows model, policy and client, which must outlive it.
#pragma once

#include <memory>
#include <string>

#include "policy/session.h"
#include "runtime/engine.h"
#include "runtime/status.h"
#include "tools/clock.h"
#include "tools/edge_network.h"
#include "tools/record.h"
#include "tools/sample_reader.h"
#include "transport/client.h"

namespace splitee::tools {

struct EdgeSettings {
  std::size_t threads = 1;
  std::int64_t deadline_us = 1'000'000;
  bool exits = false;   // fill Record::exits
  bool notices = true;  // tell of a link that goes and comes, on standard error
};

class EdgeLoop {
 public:
  // `client` is null where there is no server. `options` are the policy's.
  EdgeLoop(std::shared_ptr<const runtime::Model> model, policy::Policy& policy,
           const policy::PolicyOptions& options, transport::Client* client,
           const EdgeSettings& settings);

  // Fills the record. Fails only if the model cannot take the sample at all (a pair of sentences
  // where it knows one token type).
  runtime::Status classify(const Sample& sample, Record& record);

  // Of the sample last classified.
  std::size_t edge_layers() const { return layers_run_; }
  bool cut() const { return cut_; }

 private:
  policy::Link link();
  void notice(const std::string& message);
  void fill(const policy::Outcome& outcome, Record& record) const;
  void evaluate_exits(Record& record);

  std::shared_ptr<const runtime::Model> model_;
  policy::PolicyOptions options_;
  transport::Client* client_;
  EdgeSettings settings_;
  runtime::Engine engine_;
  EdgeNetwork network_;
  policy::Session session_;
  runtime::Encoding input_;
  std::size_t layers_run_ = 0;
  bool cut_ = false;
  bool link_up_ = true;
  std::string last_notice_;
};

}  // namespace splitee::tools
