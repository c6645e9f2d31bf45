// splitee-server: finishes the samples that edges send.
#include <algorithm>
#include <thread>

#include <signal.h>
#include <sys/resource.h>

#include "runtime/hash.h"
#include "tools/console.h"
#include "tools/flags.h"
#include "tools/keys.h"
#include "tools/metrics.h"
#include "tools/service_manager.h"
#include "transport/endpoint.h"
#include "transport/server.h"

namespace splitee::tools {
namespace {

using runtime::Code;
using runtime::Result;
using runtime::Status;

constexpr double kMiB = 1 << 20;
constexpr rlim_t kOwnDescriptors = 128;  // files, pipes, HTTP, and connections about to be cut

struct Options {
  ModelFlags model;
  transport::ServerOptions server;
  std::string secret_key_path, authorized_keys_path;
  std::string metrics;
  bool insecure = false;
};

void add_mebibytes(CLI::App& app, const std::string& flag, std::size_t& bytes,
                   const std::string& help) {
  app.add_option_function<double>(
         flag, [&bytes](double mebibytes) { bytes = static_cast<std::size_t>(mebibytes * kMiB); },
         help)
      ->type_name("MIB")
      ->check(number_within(0.001, 1e6))
      ->default_str(fmt::format("{:g}", static_cast<double>(bytes) / kMiB));
}

constexpr const char* kFooter = R"(
Prints "listening on ENDPOINT" to standard output once it takes work; everything else goes to
standard error. SIGTERM and SIGINT: new requests are refused, those accepted are answered, then it
ends with status 0. A second signal ends it at once.
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
                 "address to listen on, e.g. tcp://0.0.0.0:5555; port * takes a free one; beyond "
                 "loopback it needs keys or --insecure")
      ->type_name("ENDPOINT")
      ->check(endpoint_text())
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
  app.add_option("--handshake-ms", options.server.handshake_ms,
                 "milliseconds that a connection may take to greet; with CURVE that is three round "
                 "trips of the link, so a link slower than 750 ms there and back needs more")
      ->type_name("N")
      ->check(number_within(100, 60'000))
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
  app.footer(kFooter);
  return parse(app, argc, argv);
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
  const auto room = static_cast<std::size_t>(std::max<rlim_t>(limit.rlim_cur, kOwnDescriptors + 1) -
                                             kOwnDescriptors);
  if (options.server.max_connections <= room) return;
  print_message(fmt::format("splitee-server: {} open files allowed, so {} connections\n",
                            limit.rlim_cur, room));
  options.server.max_connections = room;
}

// ZeroMQ names an IPv4 address that it bound through an IPv6 socket "[::ffff:127.0.0.1]".
std::string plain_address(const std::string& endpoint) {
  const std::string mapped = "tcp://[::ffff:";
  const std::size_t end = endpoint.find(']');
  if (!endpoint.starts_with(mapped) || end == std::string::npos) return endpoint;
  const std::string address = endpoint.substr(mapped.size(), end - mapped.size());
  if (address.find('.') == std::string::npos) return endpoint;
  return "tcp://" + address + endpoint.substr(end + 1);
}

void reload(const ModelFlags& flags, transport::Server& server) {
  Result<std::shared_ptr<const runtime::Model>> model =
      open_model(flags, {.preload = runtime::kAllLayers});
  const Status status = model.ok() ? server.replace_model(*model) : model.status();
  if (status.ok()) {
    print_message(fmt::format("splitee-server: reloaded {}, model {} from now on\n", flags.path,
                              runtime::hash_to_string((*model)->hash())));
    return;
  }
  server.count_failed_reload();
  print_message(fmt::format("splitee-server: not reloaded, model {} stays: {}\n",
                            runtime::hash_to_string(server.counters().model_hash),
                            status.message()));
}

// Serves until the first SIGINT or SIGTERM. They and SIGHUP are blocked in every thread by main().
void serve(const Options& options, transport::Server& server, MetricsServer* metrics,
           const sigset_t& signals) {
  std::thread waiter([&] {
    for (int number = 0; sigwait(&signals, &number) == 0 && number == SIGHUP;) {
      reload(options.model, server);
    }
    notify_service_manager("STOPPING=1");
    if (metrics != nullptr) metrics->set_draining();
    server.stop();
    sigset_t ending = signals;
    sigdelset(&ending, SIGHUP);
    pthread_sigmask(SIG_UNBLOCK, &ending, nullptr);  // the next one ends the process
  });
  server.run();
  waiter.join();
}

Status run(Options& options, const sigset_t& signals) {
  if (Status status = prepare_keys(options); !status.ok()) return status;
  Result<std::shared_ptr<const runtime::Model>> model =
      open_model(options.model, {.preload = runtime::kAllLayers});
  if (!model.ok()) return model.status();
  options.server.threads = options.model.threads;
  fit_descriptors(options);
  Result<std::unique_ptr<transport::Server>> server =
      transport::Server::create(*model, options.server);
  if (!server.ok()) return server.status();
  const std::string hash = runtime::hash_to_string((*model)->hash());
  std::unique_ptr<MetricsServer> metrics;
  if (!options.metrics.empty()) {
    Result<std::unique_ptr<MetricsServer>> started =
        MetricsServer::start(options.metrics, (*server)->counters());
    if (!started.ok()) return started.status();
    metrics = std::move(*started);
    print_message(fmt::format("splitee-server: metrics at {}/metrics\n", metrics->url()));
  }
  print_message(fmt::format("splitee-server: model {} ({}), kernels {}, {} thread(s)\n",
                            (*model)->path(), hash, (*model)->kernels().target,
                            options.model.threads));
  Status status =
      print_output(fmt::format("listening on {}\n", plain_address((*server)->endpoint())));
  if (!status.ok()) return status;
  notify_service_manager("READY=1");
  serve(options, **server, metrics.get(), signals);
  const transport::ServerCounters& counters = (*server)->counters();
  print_message(fmt::format("splitee-server: stopped after {} requests, {} answered\n",
                            counters.requests.load(), counters.replies.load()));
  return {};
}

int server_main(int argc, char** argv) {
  Options options;
  if (const std::optional<int> code = parse_options(argc, argv, options)) return *code;
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return finish("splitee-server", run(options, signals));
}

}  // namespace
}  // namespace splitee::tools

int main(int argc, char** argv) {
  splitee::tools::prepare_process();
  return splitee::tools::server_main(argc, argv);
}
