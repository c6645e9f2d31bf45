// splitee-edge: classifies a stream of samples, offloading what its policy will not answer here.
#include <span>

#include <signal.h>

#include "runtime/file.h"
#include "tools/clock.h"
#include "tools/console.h"
#include "tools/costs.h"
#include "tools/edge_loop.h"
#include "tools/edge_options.h"
#include "tools/output_file.h"
#include "tools/progress.h"
#include "tools/state_file.h"
#include "tools/stop_signal.h"
#include "tools/summary.h"

namespace splitee::tools {
namespace {

using runtime::Result;
using runtime::Status;

// Everything that a run needs; built by prepare(), in the order of the members.
struct Run {
  EdgeOptions options;
  StopSignal stop;
  std::shared_ptr<const runtime::Model> model;
  EdgeSettings settings;
  policy::PolicyOptions policy_options;
  std::unique_ptr<policy::Policy> policy;
  std::unique_ptr<StateFile> state;
  std::unique_ptr<transport::Client> client;
  std::unique_ptr<SampleReader> samples;
  std::unique_ptr<OutputFile> output;
  std::unique_ptr<Summary> summary;

  void notice(const std::string& message) const {
    if (!options.quiet) print_message(fmt::format("splitee-edge: {}\n", message));
  }
};

Status prepare_policy(Run& run) {
  Result<policy::PolicyOptions> options = policy_options(run.options, run.model->config());
  if (!options.ok()) return options.status();
  run.policy_options = std::move(*options);
  Result<std::unique_ptr<policy::Policy>> made =
      policy::make_policy(run.options.policy, run.policy_options);
  if (!made.ok()) return made.status();
  run.policy = std::move(*made);
  run.state = std::make_unique<StateFile>(run.options.state_path, *run.policy);
  return run.state->load();
}

// Input before output: a wrong input leaves an old output as it was.
Status prepare_files(Run& run) {
  Result<LineReader> lines = LineReader::open(run.options.input, run.stop.fd());
  if (!lines.ok()) return lines.status();
  Result<SampleReader> samples =
      SampleReader::open(std::move(*lines), run.options.input_format, run.model->config().labels);
  if (!samples.ok()) return samples.status();
  run.samples = std::make_unique<SampleReader>(std::move(*samples));
  const EdgeOptions& options = run.options;
  const Status summary = check_not_input(options.summary_path, {options.input, options.model.path});
  if (!summary.ok()) return summary;
  Result<OutputFile> output = OutputFile::open(options.output, {options.input, options.model.path});
  if (!output.ok()) return output.status();
  run.output = std::make_unique<OutputFile>(std::move(*output));
  return {};
}

// A server that cannot be reached now is no error: it may come later.
Status prepare_link(Run& run) {
  Result<std::unique_ptr<transport::Client>> client = make_client(run.options, *run.model);
  if (!client.ok()) return client.status();
  run.client = std::move(*client);
  if (run.client != nullptr) {
    run.client->wait_available(static_cast<std::int64_t>(run.options.connect_ms) * 1000);
  }
  return {};
}

Status prepare(Run& run) {
  Result<std::shared_ptr<const runtime::Model>> model =
      open_model(run.options.model, {.preload = layers_always_run(run.options)});
  if (!model.ok()) return model.status();
  run.model = std::move(*model);
  Result<EdgeSettings> settings = edge_settings(run.options);
  if (!settings.ok()) return settings.status();
  run.settings = std::move(*settings);
  Status status = prepare_policy(run);
  if (status.ok()) status = prepare_files(run);
  if (status.ok()) status = prepare_link(run);
  run.summary = std::make_unique<Summary>(run.model->config().layers, run.policy_options.costs);
  run.summary->policy = run.options.policy;
  run.summary->alpha = run.policy_options.alpha;
  run.summary->seed = run.options.seed;
  return status;
}

// Writes the records that are finished.
Status write_finished(Run& run, EdgeLoop& loop, RecordWriter& writer) {
  while (const Finished* finished = loop.take()) {
    Status status = run.output->write(writer.line(finished->record));
    if (!status.ok()) return status;
    run.summary->add(finished->record, finished->edge_layers, finished->cut);
    status = run.state->sample_done();
    if (!status.ok()) run.notice("state not saved, will be tried again: " + status.message());
  }
  return {};
}

enum class Turn { kAgain, kEnd };

// Starts the next sample, or waits: for room, or for the next line while others wait for their
// answers, whichever comes first.
Result<Turn> take_turn(Run& run, EdgeLoop& loop, Sample& sample) {
  if (run.stop.received()) return Turn::kEnd;
  Status status;
  if (loop.full()) {
    status = loop.wait({});
    return status.ok() ? Result<Turn>(Turn::kAgain) : status;
  }
  Result<bool> ready = run.samples->ready();
  if (!ready.ok()) return ready.status();
  if (!*ready) {
    // Input that pauses holds no record back.
    if (status = run.output->flush(); !status.ok()) return status;
    if (loop.waiting() > 0) {
      const int fds[] = {run.samples->lines().fd(), run.stop.fd()};
      status = loop.wait(std::span(fds, run.stop.fd() < 0 ? 1 : 2));
      return status.ok() ? Result<Turn>(Turn::kAgain) : status;
    }
  }
  Result<bool> more = run.samples->next(sample);
  if (!more.ok()) return more.status();
  if (!*more) return Turn::kEnd;
  status = loop.start(sample);
  return status.ok() ? Result<Turn>(Turn::kAgain) : status;
}

// Until the input ends, a signal comes, or an error.
Status classify_all(Run& run, EdgeLoop& loop) {
  RecordWriter writer(run.model->config().labels, run.model->config().exit_layers);
  Progress progress(run.options.progress);
  Sample sample;
  Status error;
  for (bool going = true; going && error.ok();) {
    Result<Turn> turn = take_turn(run, loop, sample);
    going = turn.ok() && *turn == Turn::kAgain;
    if (!turn.ok()) error = turn.status();
    if (Status status = write_finished(run, loop, writer); !status.ok()) return status;
    progress.update(run.samples->lines().bytes_taken(), run.samples->lines().total_bytes(),
                    run.summary->samples());
  }
  // What was started gets its record, whatever ended the run.
  while (loop.waiting() > 0) {
    if (Status status = loop.wait({}); !status.ok()) return status;
    if (Status status = write_finished(run, loop, writer); !status.ok()) return status;
  }
  progress.finish();
  return error;
}

void add_measurements(Run& run, const EdgeLoop& loop) {
  Summary& summary = *run.summary;
  summary.set_costs(loop.costs());
  const policy::LinkCosts& costs = loop.meter().costs();
  summary.layer_us = costs.work_known() ? costs.unit_us() : 0.0;
  if (loop.power()) {
    summary.energy = Summary::Energy{loop.power()->meter().source(),
                                     loop.power()->watts(PowerByActivity::kComputing),
                                     loop.power()->watts(PowerByActivity::kWaiting)};
  }
  if (run.client == nullptr) return;
  summary.retries = run.client->counters().retries;
  if (!costs.link().known()) return;
  summary.link = Summary::Link{
      costs.link().rtt_us(),
      costs.link().us_per_byte() > 0 ? 1e6 / costs.link().us_per_byte() : 0.0,
      costs.server_layer_us(),
  };
}

Status run_loop(Run& run) {
  EdgeLoop loop(run.model, *run.policy, run.policy_options, run.client.get(), run.settings);
  const Status status = classify_all(run, loop);
  loop.learn_all();
  add_measurements(run, loop);
  return status;
}

Status write_summary(Run& run) {
  if (!run.options.quiet) print_message(run.summary->table());
  if (run.options.summary_path.empty()) return {};
  const std::string json = run.summary->json();
  return runtime::write_file_atomically(run.options.summary_path, std::as_bytes(std::span(json)));
}

int edge_main(int argc, char** argv) {
  Run run;
  if (const std::optional<int> code = parse_edge_options(argc, argv, run.options)) return *code;
  Status status = prepare(run);
  if (!status.ok()) return fail("splitee-edge", status);
  const Stopwatch watch;
  // Whatever ends the run, what was done is written out, and the first error is the one reported.
  const auto keep = [&status](Status next) {
    if (status.ok()) status = std::move(next);
  };
  keep(run_loop(run));
  keep(run.output->close());
  keep(run.state->save());
  run.summary->seconds = watch.elapsed_seconds();
  run.summary->invalid_utf8 = run.samples->invalid_utf8();
  keep(write_summary(run));
  if (!status.ok()) {
    fail("splitee-edge", status);
    return kExitError;
  }
  if (run.stop.received()) run.notice("stopped by a signal; everything read has its record");
  return kExitOk;
}

}  // namespace
}  // namespace splitee::tools

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);  // a reader that goes away is an error to report
  return splitee::tools::edge_main(argc, argv);
}
