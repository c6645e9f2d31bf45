// splitee-edge: classifies a stream of samples, offloading what its policy will not answer here.
#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <filesystem>
#include <random>
#include <span>

#include <poll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "tools/common/console.h"
#include "tools/common/costs.h"
#include "tools/common/output_file.h"
#include "tools/common/progress.h"
#include "tools/common/resources.h"
#include "tools/common/stop_signal.h"
#include "tools/edge/edge_http.h"
#include "tools/edge/edge_loop.h"
#include "tools/edge/edge_options.h"
#include "tools/edge/newest_frame.h"
#include "tools/edge/state_file.h"
#include "tools/edge/summary.h"

namespace splitee::tools {
namespace {

constexpr std::int64_t kConnectPartUs = 100'000;
constexpr std::uint64_t kMostBadRowsShown = 10;
constexpr std::int64_t kPatienceAfterStopUs = 300'000;  // with servers
constexpr std::int64_t kDiskPatienceUs = 600'000;       // the same, with a slow disk
// Of the link; libzmq ends the process where it cannot have one more.
constexpr Needs kNeeds{.descriptors = 16, .threads = 2, .bytes = std::size_t{16} << 20};
constexpr std::size_t kDescriptorsPerServer = 16, kThreadsPerServer = 1;
constexpr std::size_t kHttpDescriptors = 64, kHttpThreads = 3;

// Everything that a run needs; built by prepare(), in the order of the members.
struct Run {
  EdgeOptions options;
  StopSignal stop;
  std::shared_ptr<const runtime::Network> network;
  EdgeSettings settings;
  policy::PolicyOptions policy_options;
  std::unique_ptr<policy::Policy> policy;
  std::unique_ptr<StateFile> state;
  std::unique_ptr<transport::Client> client;
  std::unique_ptr<SampleReader> samples;  // null with --http
  std::unique_ptr<OutputFile> output;     // null with --http, unless it is a file
  std::unique_ptr<Summary> summary;
  std::unique_ptr<EdgeHttp> http;
  std::unique_ptr<NewestFrame> newest;  // with --drop-late; reads the samples then
  Stopwatch watch;                      // of the run
  std::deque<std::uint64_t> dropped;    // frames whose record is not written yet, in order

  // Of waits that a signal ends.
  std::array<int, 1> stop_fds() const { return {stop.fd()}; }
  void notice(const std::string& message) const {
    if (!options.quiet) print_message(fmt::format("splitee-edge: {}\n", message));
  }
};

void tell_state_note(Run& run) {
  if (const std::optional<std::string> note = run.state->take_note()) run.notice(*note);
}

Status prepare_policy(Run& run) {
  Result<policy::PolicyOptions> options = policy_options(run.options, *run.network);
  if (!options.ok()) return options.status();
  run.policy_options = std::move(*options);
  Result<std::unique_ptr<policy::Policy>> made =
      policy::make_policy(run.options.policy, run.policy_options);
  if (!made.ok()) return made.status();
  run.policy = std::move(*made);
  run.state = std::make_unique<StateFile>(run.options.state_path, *run.policy);
  const Status loaded = run.state->load();
  tell_state_note(run);
  if (!loaded.ok()) return loaded;
  // Two runs from one saved state must not audit the same samples.
  if (run.state->loaded()) {
    std::random_device device;
    run.policy->restarted((std::uint64_t{device()} << 32) | device() | 1);
  }
  return {};
}

// What SIGHUP means for an output that may be a file.
StopSignal::Hangup hangup_of(const std::string& output) {
  std::error_code error;
  const auto type = std::filesystem::status(output, error).type();
  const bool file =
      type == std::filesystem::file_type::regular || type == std::filesystem::file_type::not_found;
  return output != "-" && file ? StopSignal::Hangup::kReopens : StopSignal::Hangup::kStops;
}

// Input before output: a wrong input leaves an old output as it was.
Status prepare_input(Run& run) {
  Result<LineReader> lines = LineReader::open(run.options.input, run.stop.fd());
  if (!lines.ok()) return lines.status();
  Result<SampleReader> samples =
      SampleReader::open(std::move(*lines), run.options.input_format, run.network->info(),
                         run.options.feedback, run.options.frame);
  if (!samples.ok()) return samples.status();
  run.samples = std::make_unique<SampleReader>(std::move(*samples));
  if (!run.options.drop_late) return {};
  Result<std::unique_ptr<NewestFrame>> newest = NewestFrame::start(*run.samples);
  if (!newest.ok()) return newest.status();
  run.newest = std::move(*newest);
  return {};
}

Status prepare_files(Run& run) {
  const bool serves = !run.options.http.endpoint.empty();
  Status status = serves ? Status() : prepare_input(run);
  if (!status.ok() || (serves && run.options.output == "-")) return status;
  Result<OutputFile> output = OutputFile::open(
      run.options.output, &run.stop,
      run.options.append ? OutputFile::Existing::kKept : OutputFile::Existing::kReplaced);
  if (!output.ok()) return output.status();
  run.output = std::make_unique<OutputFile>(std::move(*output));
  return {};
}

// No file that is written is another one of the run.
Status check_paths(const EdgeOptions& options) {
  const std::string* const outputs[] = {&options.output, &options.summary_path,
                                        &options.state_path};
  for (const std::string* output : outputs) {
    Status status =
        refuse_overwrite(*output, {options.input, options.model.path, options.costs.costs_path,
                                   options.secret_key_path, options.server_key});
    if (!status.ok()) return status;
    for (const std::string* other : outputs) {
      if (other == output) continue;
      if (status = refuse_same_output(*output, *other); !status.ok()) return status;
    }
  }
  return check_whole_output(options.summary_path, {});
}

// A server that cannot be reached now is no error, unless one is required: it may come later.
Status prepare_link(Run& run) {
  Result<std::unique_ptr<transport::Client>> client = make_client(run.options, *run.network);
  if (!client.ok()) return client.status();
  run.client = std::move(*client);
  if (run.client == nullptr) return {};
  const Stopwatch watch;
  const std::int64_t most_us = static_cast<std::int64_t>(run.options.connect_ms) * 1000;
  // In parts, because a signal does not end the wait.
  for (std::int64_t left_us = most_us; left_us > 0 && !run.stop.received();
       left_us = most_us - watch.elapsed_us()) {
    if (run.client->wait_available(std::min(left_us, kConnectPartUs))) break;
  }
  if (!run.options.require_server || run.stop.received() || run.client->available()) return {};
  return Status(Code::kIo, fmt::format("--require-server: no server within {} ms: {}",
                                       run.options.connect_ms, run.client->last_problem()));
}

// What waits for a request is worth nothing to a client that cannot know of it.
Status prepare_http(Run& run) {
  if (run.options.http.endpoint.empty()) return {};
  auto http = EdgeHttp::start(run.options.http, run.network);
  if (!http.ok()) return http.status();
  run.http = std::move(*http);
  return print_output(fmt::format("listening on {}\n", run.http->url()));
}

Status check_limits(const EdgeOptions& options) {
  Needs needs;
  if (!options.servers.empty()) {
    needs = kNeeds;
    needs.descriptors += kDescriptorsPerServer * options.servers.size();
    needs.threads += kThreadsPerServer * options.servers.size();
  }
  if (!options.http.endpoint.empty()) {
    needs.descriptors += kHttpDescriptors;
    needs.threads += kHttpThreads;
  }
  if (options.drop_late) {
    needs.descriptors += 2;
    needs.threads += 1;
  }
  needs.threads += options.model.threads - 1;
  return check_resources(needs);
}

Status prepare(Run& run) {
  if (Status status = check_paths(run.options); !status.ok()) return status;
  if (Status status = check_limits(run.options); !status.ok()) return status;
  Result<std::shared_ptr<const runtime::Network>> network =
      open_model(run.options.model, {.preload = layers_always_run(run.options)});
  if (!network.ok()) return network.status();
  run.network = std::move(*network);
  if (Status status = choose_policy(*run.network, run.options); !status.ok()) return status;
  Result<EdgeSettings> settings = edge_settings(run.options);
  if (!settings.ok()) return settings.status();
  run.settings = std::move(*settings);
  Status status = prepare_policy(run);
  // Not before: what takes long up to here has nothing to lose by a signal.
  run.stop.begin(hangup_of(run.options.output));
  if (status.ok()) status = prepare_files(run);
  if (status.ok()) status = prepare_link(run);
  run.summary = std::make_unique<Summary>(run.network->info().layers(), run.policy_options.costs);
  run.summary->policy = run.options.policy;
  run.summary->alpha = run.policy_options.alpha;
  run.summary->seed = run.options.seed;
  if (status.ok()) status = prepare_http(run);
  return status;
}

LiveFigures::Moment moment_of(const Run& run) {
  LiveFigures::Moment moment;
  moment.disagreement = run.policy->disagreement();
  moment.link_configured = run.client != nullptr;
  moment.link_up = run.client != nullptr && run.client->ready();
  if (moment.link_configured && !moment.link_up) moment.link_problem = run.client->last_problem();
  return moment;
}

// Of dropped frames before `id`.
Status write_dropped(Run& run, std::uint64_t id) {
  for (; !run.dropped.empty() && run.dropped.front() < id; run.dropped.pop_front()) {
    ++run.summary->dropped;
    const Status status =
        run.output->write(fmt::format("{{\"id\": {}, \"dropped\": true}}\n", run.dropped.front()));
    if (!status.ok()) return status;
  }
  return {};
}

// Writes the records that are finished.
Status write_finished(Run& run, EdgeLoop& loop, RecordWriter& writer) {
  while (const Finished* finished = loop.take()) {
    Status status = write_dropped(run, finished->record.id);
    if (status.ok() && run.output) status = run.output->write(writer.line(finished->record));
    if (!status.ok()) return status;
    if (run.http) run.http->answered(*finished, loop.taken_confidences(), moment_of(run));
    run.summary->add(finished->record, finished->edge_layers, finished->cut);
    status = run.state->sample_done();
    if (!status.ok()) run.notice("state not saved, will be tried again: " + status.message());
    tell_state_note(run);
  }
  return {};
}

// What was started gets its record, whatever ended the run; after a signal servers have little time
// left for theirs.
Status finish_started(Run& run, EdgeLoop& loop, RecordWriter& writer) {
  std::optional<Stopwatch> stopped;
  while (loop.waiting() > 0) {
    if (run.stop.received() && !stopped) stopped.emplace();
    const bool late = stopped && stopped->elapsed_us() > kPatienceAfterStopUs;
    Status status = late ? loop.finish_waiting() : loop.wait(run.stop_fds());
    if (status.ok()) status = write_finished(run, loop, writer);
    if (!status.ok()) return status;
  }
  return {};
}

// After a signal a disk has little time left too.
Status finish_state(Run& run) {
  std::optional<Stopwatch> stopped;
  const Status status = run.state->finish([&] {
    if (run.stop.received() && !stopped) stopped.emplace();
    return stopped && stopped->elapsed_us() > kDiskPatienceUs;
  });
  tell_state_note(run);
  return status.ok() ? status : Status(status.code(), "state not saved: " + status.message());
}

// Of a line that is no sample; the first ones only.
void tell_bad_row(const SampleReader& samples) {
  if (samples.bad_row().empty() || samples.bad_rows() > kMostBadRowsShown) return;
  print_message(fmt::format("splitee-edge: {}; no record\n", printable(samples.bad_row())),
                Level::kWarning);
}

// Known at the end only: what follows a row that cannot be read has its record first.
Status bad_rows_error(const SampleReader& samples) {
  if (samples.bad_rows() == 0) return {};
  return Status(Code::kCorrupt, fmt::format("{}: {} row(s) could not be read",
                                            samples.lines().name(), samples.bad_rows()));
}

enum class Turn { kAgain, kEnd };

// Waits until there is something at `fd`, or a signal; the link is looked after meanwhile: a server
// that goes is noticed, and sought again.
Result<Turn> wait_for(Run& run, EdgeLoop& loop, int fd) {
  const int fds[] = {fd, run.stop.fd()};
  if (loop.has_link()) {
    const Status status = loop.wait(fds);
    return status.ok() ? Result<Turn>(Turn::kAgain) : status;
  }
  pollfd events[] = {{fds[0], POLLIN, 0}, {fds[1], POLLIN, 0}};
  if (::poll(events, std::size(events), -1) < 0 && errno != EINTR) {
    return Status(Code::kIo, "cannot wait for input");
  }
  return Turn::kAgain;
}

// A sample whose bytes turn out to be broken is a row that cannot be read.
Result<Turn> start_sample(Run& run, EdgeLoop& loop, const Sample& sample) {
  const Status status = loop.start(sample);
  if (status.ok()) return Turn::kAgain;
  if (!loop.refused()) return status;
  run.samples->refuse(status);
  tell_bad_row(*run.samples);
  return Turn::kAgain;
}

// With --drop-late.
Result<Turn> take_frame(Run& run, EdgeLoop& loop, Sample& sample) {
  const Result<SampleReader::Row> row = run.newest->take(sample, run.dropped);
  if (!row.ok()) return row.status();
  if (*row == SampleReader::Row::kEnd) return Turn::kEnd;
  if (*row == SampleReader::Row::kSample) {
    const Status status = loop.start(sample);
    return status.ok() ? Result<Turn>(Turn::kAgain) : status;
  }
  const Status status = run.output->flush();
  return status.ok() ? wait_for(run, loop, run.newest->fd()) : status;
}

// Starts the next sample, or waits: for room, or for the next line while others wait for their
// answers, whichever comes first.
Result<Turn> take_turn(Run& run, EdgeLoop& loop, Sample& sample) {
  if (run.stop.received()) return Turn::kEnd;
  Status status;
  if (loop.full()) {
    status = loop.wait(run.stop_fds());
    return status.ok() ? Result<Turn>(Turn::kAgain) : status;
  }
  if (run.newest) return take_frame(run, loop, sample);
  Result<bool> ready = run.samples->ready();
  if (!ready.ok()) return ready.status();
  if (!*ready) {
    // Input that pauses holds no record back.
    if (status = run.output->flush(); !status.ok()) return status;
    if (loop.has_link()) return wait_for(run, loop, run.samples->lines().fd());
  }
  Result<SampleReader::Row> row = run.samples->next_row(sample);
  if (!row.ok()) return row.status();
  if (*row == SampleReader::Row::kEnd) return Turn::kEnd;
  if (*row == SampleReader::Row::kSample) return start_sample(run, loop, sample);
  tell_bad_row(*run.samples);
  return Turn::kAgain;
}

void add_measurements(Run& run, const EdgeLoop& loop) {
  Summary& summary = *run.summary;
  summary.set_costs(loop.costs());
  summary.board = read_board(run.options.energy_root);
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
  const double us_per_byte = costs.link().us_per_byte();
  summary.link = Summary::LinkUse{
      costs.link().rtt_us(),
      us_per_byte > 0 ? std::optional(1e6 / us_per_byte) : std::nullopt,
      costs.server_layer_us(),
  };
}

void answer_figures(Run& run, const EdgeLoop& loop) {
  if (!run.http->figures_wanted()) return;
  run.summary->disagreement = run.policy->disagreement();
  run.summary->seconds = run.watch.elapsed_seconds();
  add_measurements(run, loop);
  run.http->answer_figures(*run.summary, moment_of(run));
}

// Starts the next row of a request, or waits for one, or for room.
Result<Turn> take_http_turn(Run& run, EdgeLoop& loop, Sample& sample) {
  run.http->clear_fd();
  if (run.stop.received()) return Turn::kEnd;
  answer_figures(run, loop);
  if (!loop.full() && run.http->next(sample)) {
    const Status status = loop.start(sample);
    status.ok() ? run.http->started() : run.http->refused(status);
    return Turn::kAgain;
  }
  if (run.output) {
    if (Status status = run.output->flush(); !status.ok()) return status;
  }
  return wait_for(run, loop, run.http->fd());
}

// By itself where a file is worked off and the records do not go to the same terminal.
Progress::Shown progress_of(const Run& run) {
  if (run.samples == nullptr) return Progress::Shown::kNever;
  if (run.options.progress) return Progress::Shown::kAlways;
  const bool to_terminal = run.options.output == "-" && ::isatty(STDOUT_FILENO) == 1;
  const bool by_itself =
      !run.options.quiet && !to_terminal && run.samples->lines().total_bytes() > 0;
  return by_itself ? Progress::Shown::kIfWatched : Progress::Shown::kNever;
}

// Until the input ends, a signal comes, or an error.
Status classify_all(Run& run, EdgeLoop& loop) {
  RecordWriter writer(run.network->info());
  Progress progress(progress_of(run));
  Sample sample;
  sample.input.max_length = run.options.max_tokens;
  Status error;
  for (bool going = true; going && error.ok();) {
    Result<Turn> turn = run.http ? take_http_turn(run, loop, sample) : take_turn(run, loop, sample);
    going = turn.ok() && *turn == Turn::kAgain;
    if (!turn.ok()) error = turn.status();
    if (Status status = write_finished(run, loop, writer); !status.ok()) return status;
    if (!run.samples || run.newest) continue;
    progress.update(run.samples->lines().bytes_taken(), run.samples->lines().total_bytes(),
                    run.summary->samples());
  }
  if (run.http) run.http->close();
  if (run.newest) run.newest->end(run.dropped);
  Status finished = finish_started(run, loop, writer);
  if (finished.ok()) finished = write_dropped(run, UINT64_MAX);
  progress.finish();
  return finished.ok() ? error : finished;
}

Status run_loop(Run& run) {
  EdgeLoop loop(run.network, *run.policy, run.policy_options, run.client.get(), run.settings);
  const Status status = classify_all(run, loop);
  loop.learn_all();
  run.summary->disagreement = run.policy->disagreement();
  add_measurements(run, loop);
  return status;
}

Status write_summary(Run& run) {
  if (!run.options.quiet) print_last_message(run.summary->table());
  if (run.options.summary_path.empty()) return {};
  const std::string json = run.summary->json();
  return write_file_atomically(run.options.summary_path, std::as_bytes(std::span(json)));
}

// Records are in the order of the samples, one each.
Status with_missing(const Status& status, const OutputFile& output) {
  if (status.ok() || !output.failed()) return status;
  return Status(status.code(), fmt::format("{}; {} whole record(s) were written, from sample {} on "
                                           "there is none",
                                           status.message(), output.records(), output.records()));
}

int edge_main(int argc, char** argv) {
  Run run;
  if (const std::optional<int> code = parse_edge_options(argc, argv, run.options)) return *code;
  Status status = prepare(run);
  if (!status.ok()) return fail("splitee-edge", status);
  run.watch = Stopwatch();
  // Whatever ends the run, what was done is written out, and the first error is the one reported.
  const auto keep = [&status](Status next) {
    if (status.ok()) status = std::move(next);
  };
  keep(run_loop(run));
  if (run.http) run.http->drain();
  if (run.samples) keep(bad_rows_error(*run.samples));
  if (run.output) {
    keep(run.output->close());
    status = with_missing(status, *run.output);
  }
  keep(finish_state(run));
  run.summary->seconds = run.watch.elapsed_seconds();
  if (run.samples) run.summary->invalid_utf8 = run.samples->invalid_utf8();
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
  using namespace splitee::tools;
  return run_program("splitee-edge", [&] { return edge_main(argc, argv); });
}
