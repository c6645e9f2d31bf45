// TCP proxy that delays, limits, stalls, cuts, resets and corrupts what passes through it, on
// command: between real programs under test, and as an emulator of slow links.
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <limits>
#include <string>
#include <vector>

#include <unistd.h>

#include "tests/faults/relay.h"

namespace {

using splitee::Status;
using splitee::faults::End;
using splitee::faults::Relay;
using splitee::faults::RelayStats;

constexpr int kUsage = 2;
std::atomic<bool> stop_requested{false};

void on_signal(int) {
  stop_requested = true;
}

const char* const kHelp =
    "fault_proxy --listen HOST:PORT --connect HOST:PORT [--seed N] [--script FILE] [SETTING]...\n"
    "\n"
    "Relays TCP connections; port 0 listens on any. Prints 'listening on HOST:PORT', then answers\n"
    "each command read from standard input with 'ok' or 'error: ...', and prints its statistics\n"
    "at the end (quit, SIGTERM, SIGINT). A script holds one command a line, each behind its time\n"
    "in milliseconds since the start; # begins a comment.\n"
    "\n"
    "Commands\n"
    "  SETTING...  changes settings, also of connections that are open\n"
    "  pass        all settings to their defaults, connections are taken\n"
    "  cut         closes every connection; what is on the way is lost\n"
    "  reset       the same with a reset (RST)\n"
    "  refuse      closes new connections at once; 'accept' ends it\n"
    "  stats       prints the statistics as JSON\n"
    "  quit\n"
    "\n"
    "Settings\n";

struct Options {
  std::string listen = "127.0.0.1:0", connect, script, settings;
  std::uint64_t seed = 1;
};

struct Step {
  std::int64_t at_ms;
  std::string command;
};

int usage(const std::string& what) {
  std::cerr << "fault_proxy: " << what << " (see --help)\n";
  return kUsage;
}

void print_stats(const Relay& relay) {
  const RelayStats stats = relay.stats();
  std::cout << "{\"connections\":" << stats.connections << ",\"open\":" << relay.open_connections()
            << ",\"failed_connects\":" << stats.failed_connects << ",\"closed\":" << stats.closed
            << ",\"reset\":" << stats.reset << ",\"bytes_up\":" << stats.bytes_up
            << ",\"bytes_down\":" << stats.bytes_down << ",\"corrupted\":" << stats.corrupted << "}"
            << std::endl;
}

Status execute(Relay& relay, const std::string& command) {
  if (command == "cut") {
    relay.end_all(End::kClose);
  } else if (command == "reset") {
    relay.end_all(End::kReset);
  } else if (command == "refuse" || command == "accept") {
    relay.refuse(command == "refuse");
  } else if (command == "pass") {
    relay.refuse(false);
    relay.pass();
  } else if (command == "stats") {
    print_stats(relay);
  } else if (command == "quit") {
    stop_requested = true;
  } else {
    return relay.change(command);
  }
  return {};
}

// Everything until the last end of line that is there; false at the end of the input.
bool read_commands(std::string& pending, Relay& relay) {
  char bytes[4096];
  const ssize_t count = ::read(STDIN_FILENO, bytes, sizeof bytes);
  if (count <= 0) return false;
  pending.append(bytes, static_cast<std::size_t>(count));
  for (std::size_t end; (end = pending.find('\n')) != pending.npos; pending.erase(0, end + 1)) {
    const Status status = execute(relay, pending.substr(0, end));
    std::cout << (status.ok() ? "ok" : "error: " + status.message()) << std::endl;
  }
  return true;
}

bool read_script(const std::string& path, std::vector<Step>& steps) {
  std::ifstream file(path);
  if (!file) return false;
  for (std::string line; std::getline(file, line);) {
    line.erase(std::min(line.size(), line.find('#')));
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    char* end = nullptr;
    const std::int64_t at_ms = std::strtoll(line.c_str(), &end, 10);
    while (*end == ' ' || *end == '\t') ++end;
    if (*end == '\0' || at_ms < (steps.empty() ? 0 : steps.back().at_ms)) return false;
    std::string command = end;
    command.erase(command.find_last_not_of(" \t\r") + 1);
    steps.push_back({at_ms, std::move(command)});
  }
  return true;
}

int parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--help") {
      std::cout << kHelp << splitee::faults::kSettingsHelp;
      std::exit(0);
    }
    if (!word.starts_with("--")) {
      options.settings += word + ' ';
      continue;
    }
    if (++i == argc) return usage(word + " needs a value");
    if (word == "--listen") {
      options.listen = argv[i];
    } else if (word == "--connect") {
      options.connect = argv[i];
    } else if (word == "--script") {
      options.script = argv[i];
    } else if (word == "--seed") {
      options.seed = std::strtoull(argv[i], nullptr, 10);
    } else {
      return usage("unknown " + word);
    }
  }
  return options.connect.empty() ? usage("--connect is missing") : 0;
}

int serve(Relay& relay, const std::vector<Step>& steps) {
  const std::int64_t start_us = splitee::faults::now_us();
  std::size_t next = 0;
  std::string pending;
  int input = STDIN_FILENO;
  while (!stop_requested) {
    const std::int64_t until_us = next < steps.size() ? start_us + steps[next].at_ms * 1'000
                                                      : std::numeric_limits<std::int64_t>::max();
    switch (relay.run_until(until_us, input)) {
      case Relay::Wake::kInput:
        if (!read_commands(pending, relay)) input = -1;
        break;
      case Relay::Wake::kTime: {
        const Status status = execute(relay, steps[next++].command);
        if (!status.ok()) return usage(status.message());
        break;
      }
      case Relay::Wake::kSignal:
        break;
    }
  }
  print_stats(relay);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (const int status = parse(argc, argv, options); status != 0) return status;
  std::vector<Step> steps;
  if (!options.script.empty() && !read_script(options.script, steps)) {
    return usage(options.script + ": not a script with ascending times");
  }
  struct sigaction action {};
  action.sa_handler = on_signal;  // without SA_RESTART: a wait ends
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  Relay relay(options.seed);
  if (const Status status = relay.change(options.settings); !status.ok()) {
    return usage(status.message());
  }
  if (const Status status = relay.start(options.listen, options.connect); !status.ok()) {
    std::cerr << "fault_proxy: " << status.message() << "\n";
    return 1;
  }
  std::cout << "listening on " << options.listen.substr(0, options.listen.rfind(':')) << ":"
            << relay.port() << std::endl;
  return serve(relay, steps);
}
