// splitee-server: finishes the samples that edges send.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <thread>

#include <signal.h>
#include <sys/resource.h>

#include "base/hash.h"
#include "tools/common/console.h"
#include "tools/common/flags.h"
#include "tools/common/keys.h"
#include "tools/common/resources.h"
#include "tools/http/service.h"
#include "tools/server/landlock.h"
#include "tools/server/metrics.h"
#include "tools/server/server_http.h"
#include "tools/server/service_manager.h"
#include "transport/server/server.h"
#include "transport/zmq/endpoint.h"

namespace splitee::tools {
namespace {

constexpr double kMiB = 1 << 20;
constexpr std::chrono::milliseconds kOutputPatience{300};
constexpr std::size_t kHttpThreads = 3;
constexpr rlim_t kOwnDescriptors = 128;  // files, pipes, HTTP, and connections about to be cut

struct Options {
  ModelFlags model;
  transport::ServerOptions server;
  std::string secret_key_path, authorized_keys_path;
  std::string metrics;
  HttpFlags http;
  bool insecure = false;
  bool landlock = false;
};

void add_mebibytes(CLI::App& app, const std::string& flag, std::size_t& bytes,
                   const std::string& help) {
  app.add_option_function<double>(
         flag,
         [&bytes](double mebibytes) {
           // More than there are addresses for is no limit.
           bytes = static_cast<std::size_t>(
               std::min(mebibytes * kMiB, static_cast<double>(PTRDIFF_MAX)));
         },
         help)
      ->type_name("MIB")
      ->check(number_within(0.001, 1e6))
      ->default_str(fmt::format("{:g}", static_cast<double>(bytes) / kMiB));
}

constexpr const char* kFooter = R"(
Prints "listening on ENDPOINT" (all of them, where a name has several addresses) to standard output
once it takes work, and "listening on URL" with --http; everything else goes to standard error.
SIGTERM and SIGINT: new requests are refused, those accepted are answered, then it ends with status
0, at the latest after --drain-ms. A second signal ends it at once.
SIGHUP: the model file is read again and takes the place of the old one between two requests; edges
that still have the old file are refused, with both hashes. A bad file changes nothing.
Keys come from `splitee keygen`. Without them the link is neither encrypted nor authenticated.
Exit status: 0; 2 for wrong usage; 1 for a model, key or start-up error.)";

std::optional<int> parse_options(int argc, char** argv, Options& options) {
  CLI::App app("Finishes the samples that splitee-edge sends it, with the same model.",
               "splitee-server");
  add_version(app);
  add_model_flags(app, options.model, "requests computed at the same time, a thread each");
  app.add_option("--bind", options.server.endpoint,
                 "address to listen on, e.g. tcp://0.0.0.0:5555; all addresses of a name; port * "
                 "takes a free one; beyond loopback it needs keys or --insecure")
      ->type_name("ENDPOINT")
      ->check(bind_endpoint_text())
      ->capture_default_str();
  app.add_option("--max-batch", options.server.max_batch,
                 "most waiting requests of one layer and similar length that a thread runs "
                 "together; none ever waits for others")
      ->type_name("N")
      ->check(number_within(1, 1024))
      ->capture_default_str();
  app.add_option("--max-queue", options.server.max_queue,
                 "requests that may wait; beyond it the edge with the most work waiting is "
                 "refused as busy")
      ->type_name("N")
      ->check(number_within(1, 1e6))
      ->capture_default_str();
  add_mebibytes(app, "--max-queue-mb", options.server.max_queue_bytes,
                "MiB of requests that may wait");
  add_mebibytes(app, "--max-edge-mb", options.server.max_edge_bytes,
                "MiB of requests that may wait for one edge (one key; without keys, one "
                "connection)");
  app.add_option("--max-connections", options.server.max_connections,
                 "connections; more are cut at once. Lowered to what the limit on open files "
                 "leaves (which is raised as far as allowed)")
      ->type_name("N")
      ->check(number_within(1, 1e6))
      ->capture_default_str();
  app.add_option("--max-key-connections", options.server.max_key_connections,
                 "connections of one key; more are refused")
      ->type_name("N")
      ->check(number_within(1, 1e6))
      ->capture_default_str();
  app.add_option("--handshake-ms", options.server.handshake_ms,
                 "milliseconds that a connection may take to greet; with CURVE that is three round "
                 "trips of the link, so a link slower than 750 ms there and back needs more")
      ->type_name("N")
      ->check(number_within(100, 60'000))
      ->capture_default_str();
  app.add_option(
         "--drain-ms", options.server.drain_ms,
         "milliseconds that SIGTERM leaves to answer what was accepted; the rest is refused")
      ->type_name("N")
      ->check(number_within(0, 3'600'000))
      ->capture_default_str();
  CLI::Option* secret =
      app.add_option("--secret-key", options.secret_key_path,
                     "this server's PREFIX.secret file; encrypts the link (CURVE)")
          ->type_name("FILE");
  secret->needs(app.add_option("--authorized-keys", options.authorized_keys_path,
                               "file of the edges' public keys, one a line; others are not let in")
                    ->type_name("FILE")
                    ->needs(secret));
  app.add_flag("--insecure", options.insecure, "allow an address beyond loopback without keys")
      ->excludes(secret);
  app.add_option("--metrics", options.metrics,
                 "serve Prometheus text at http://HOST:PORT/metrics, and /healthz, which answers "
                 "503 while draining (default: off)")
      ->type_name("HOST:PORT");
  add_http_flags(app, options.http, /*insecure_flag=*/false);
  app.add_flag(
      "--landlock", options.landlock,
      "let the kernel refuse this process every file but the system's and those beside the "
      "model, all writing, all programs, and connections that it begins (Linux 5.13 and "
      "later). A model that takes the place of this one must lie in the same folder");
  add_log_format_flag(app);
  app.footer(kFooter);
  const std::optional<int> code = parse(app, argc, argv);
  options.http.insecure = options.insecure;
  return code;
}

Status prepare_keys(Options& options) {
  if (options.secret_key_path.empty()) {
    if (options.insecure || transport::is_loopback_endpoint(options.server.endpoint)) return {};
    return Status(Code::kUnsupported,
                  "--bind " + options.server.endpoint +
                      " can be reached from other machines: give --secret-key and "
                      "--authorized-keys, or --insecure to do without");
  }
  Result<KeyPair> keys = read_secret_key(options.secret_key_path);
  if (!keys.ok()) return keys.status();
  Result<std::vector<std::string>> authorized = read_public_keys(options.authorized_keys_path);
  if (!authorized.ok()) return authorized.status();
  options.server.curve = {keys->public_key, keys->secret_key, std::move(*authorized)};
  return {};
}

// Raises the limit on open files as far as it goes, and keeps connections below it: ZeroMQ spins
// when it can accept no more.
void fit_descriptors(Options& options) {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const rlim_t own =
      kOwnDescriptors + (options.http.endpoint.empty() ? 0 : rlim_t{http_connections()});
  const auto room = static_cast<std::size_t>(std::max<rlim_t>(limit.rlim_cur, own + 1) - own);
  if (options.server.max_connections <= room) return;
  print_message(fmt::format("splitee-server: {} open files allowed, so {} connections\n",
                            limit.rlim_cur, room),
                Level::kWarning);
  options.server.max_connections = room;
}

// libzmq ends the process where it cannot have one more of what it needs.
Status check_limits(const Options& options) {
  Needs needs{.descriptors = 32, .threads = 5, .bytes = std::size_t{32} << 20};
  needs.threads += options.model.threads;
  if (!options.http.endpoint.empty()) needs.threads += options.model.threads + kHttpThreads;
  return check_resources(needs);
}

// All of it read and checked, and in memory from then on: whatever becomes of the file.
Result<std::shared_ptr<const runtime::Network>> open_whole_model(const ModelFlags& flags) {
  Result<std::shared_ptr<const runtime::Network>> model =
      open_model(flags, {.preload = runtime::kAllLayers});
  if (!model.ok()) return model;
  if (Status status = (*model)->load_all(); !status.ok()) return status;
  return model;
}

void reload(const ModelFlags& flags, transport::Server& server, ServerHttp* http) {
  Result<std::shared_ptr<const runtime::Network>> model = open_whole_model(flags);
  const Status status = model.ok() ? server.replace_model(*model) : model.status();
  if (status.ok()) {
    if (http != nullptr) http->replace_model(*model);
    print_message(fmt::format("splitee-server: reloaded {}, model {} from now on\n", flags.path,
                              hash_to_string((*model)->hash())));
    return;
  }
  server.count_failed_reload();
  print_message(fmt::format("splitee-server: not reloaded, model {} stays: {}\n",
                            hash_to_string(server.counters().model_hash), status.message()),
                Level::kWarning);
}

// Reads the model again, in a thread of its own: a signal to end does not wait for a slow disk.
class Reloader {
 public:
  Reloader(const ModelFlags& flags, transport::Server& server, ServerHttp* http)
      : flags_(flags), server_(server), http_(http) {}

  void start() {
    if (wanted_.fetch_add(1) > 0) return;  // the thread goes round once more
    if (thread_.joinable()) thread_.join();
    thread_ = std::thread([this] {
      for (int begun = 1; begun > 0;) {
        begun = wanted_;
        reload(flags_, server_, http_);
        begun = wanted_ -= begun;
      }
    });
  }
  // False where the thread is still at it: then it must not be waited for.
  bool finish() {
    if (wanted_ > 0) return false;
    if (thread_.joinable()) thread_.join();
    return true;
  }

 private:
  const ModelFlags& flags_;
  transport::Server& server_;
  ServerHttp* http_;  // may be null
  std::atomic<int> wanted_ = 0;
  std::thread thread_;
};

sigset_t ending_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

// Serves until the first SIGINT or SIGTERM. They and SIGHUP are blocked in every thread.
void serve(Reloader& reloader, transport::Server& server, MetricsServer* metrics, ServerHttp* http,
           std::chrono::milliseconds drain) {
  std::thread waiter([&] {
    const sigset_t ending = ending_signals();
    sigset_t signals = ending;
    sigaddset(&signals, SIGHUP);
    for (int number = 0; sigwait(&signals, &number) == 0 && number == SIGHUP;) reloader.start();
    notify_service_manager("STOPPING=1");
    if (metrics != nullptr) metrics->set_draining();
    server.stop();
    pthread_sigmask(SIG_UNBLOCK, &ending, nullptr);  // the next one ends the process
    if (http != nullptr) http->drain(drain);
  });
  server.run();
  waiter.join();
}

// Nobody need read it for the server to serve.
Status print_listening(const std::string& endpoint) {
  Result<bool> printed =
      print_output_within(fmt::format("listening on {}\n", endpoint), kOutputPatience);
  if (!printed.ok()) return printed.status();
  if (!*printed) {
    print_message(
        fmt::format("splitee-server: standard output is full and not read; listening on {}\n",
                    endpoint),
        Level::kWarning);
  }
  return {};
}

Status apply_landlock(const Options& options) {
  LandlockRules rules{.readable = system_paths(), .socket_folders = {}};
  for (std::string& folder : folders_of(options.model.path)) {
    rules.readable.push_back(std::move(folder));
  }
  if (const auto path = transport::ipc_path(options.server.endpoint)) {
    rules.socket_folders = folders_of(*path);
  }
  Result<bool> restricted = restrict_process(rules);
  if (!restricted.ok()) return restricted.status();
  if (!*restricted) {
    print_message("splitee-server: this kernel has no Landlock; --landlock does nothing\n",
                  Level::kWarning);
  }
  return {};
}

Status run(Options& options) {
  if (Status status = check_limits(options); !status.ok()) return status;
  if (Status status = prepare_keys(options); !status.ok()) return status;
  if (options.landlock) {
    if (Status status = apply_landlock(options); !status.ok()) return status;
  }
  Result<std::shared_ptr<const runtime::Network>> model = open_whole_model(options.model);
  if (!model.ok()) return model.status();
  options.server.threads = options.model.threads;
  fit_descriptors(options);
  // Not before: what takes long up to here has nothing to lose by a signal.
  const sigset_t ending = ending_signals();
  pthread_sigmask(SIG_BLOCK, &ending, nullptr);
  options.server.notice = [](const std::string& text) {
    print_message(fmt::format("splitee-server: {}\n", printable(text)), Level::kWarning);
  };
  Result<std::unique_ptr<transport::Server>> server =
      transport::Server::create(*model, options.server);
  if (!server.ok()) return server.status();
  const std::string hash = hash_to_string((*model)->hash());
  std::unique_ptr<MetricsServer> metrics;
  if (!options.metrics.empty()) {
    Result<std::unique_ptr<MetricsServer>> started =
        MetricsServer::start(options.metrics, (*server)->counters());
    if (!started.ok()) return started.status();
    metrics = std::move(*started);
    print_message(fmt::format("splitee-server: metrics at {}/metrics\n", metrics->url()));
  }
  std::unique_ptr<ServerHttp> http;
  if (!options.http.endpoint.empty()) {
    auto started = ServerHttp::start(options.http, *model, options.model.threads,
                                     options.server.max_batch, (*server)->counters());
    if (!started.ok()) return started.status();
    http = std::move(*started);
    print_message(fmt::format("splitee-server: HTTP at {}/\n", http->url()));
  }
  print_message(fmt::format("splitee-server: model {} ({}), kernels {}, {} thread(s)\n",
                            (*model)->path(), hash, (*model)->kernels().target,
                            options.model.threads));
  Status status = print_listening(fmt::format("{}", fmt::join((*server)->endpoints(), " ")));
  if (!status.ok()) return status;
  notify_service_manager("READY=1");
  Reloader reloader(options.model, **server, http.get());
  serve(reloader, **server, metrics.get(), http.get(),
        std::chrono::milliseconds(options.server.drain_ms));
  const transport::ServerCounters& counters = (*server)->counters();
  print_last_message(fmt::format("splitee-server: stopped after {} requests, {} answered\n",
                                 counters.requests.load(), counters.replies.load()));
  if (!reloader.finish()) std::_Exit(kExitOk);
  return {};
}

int server_main(int argc, char** argv) {
  Options options;
  if (const std::optional<int> code = parse_options(argc, argv, options)) return *code;
  sigset_t hangup;
  sigemptyset(&hangup);
  sigaddset(&hangup, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &hangup, nullptr);
  return finish("splitee-server", run(options));
}

}  // namespace
}  // namespace splitee::tools

int main(int argc, char** argv) {
  using namespace splitee::tools;
  return run_program("splitee-server", [&] { return server_main(argc, argv); });
}
