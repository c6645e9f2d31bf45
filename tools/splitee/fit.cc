// `splitee fit`: finds a Python that has PyTorch, and becomes the trainer (tools/training/fit.py).
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <sstream>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/common/console.h"
#include "tools/common/flags.h"
#include "tools/splitee/commands.h"

namespace splitee::tools {

namespace {

namespace fs = std::filesystem;

struct Flags {
  std::string data, output, backbone, report, work;
  std::string dtype = "auto";
  bool keep = false, fresh = false;
  double minutes = 30;
  std::uint64_t steps = 0;
  std::uint64_t seed = 1;
  std::size_t threads = std::max(1u, std::thread::hardware_concurrency());
};

constexpr const char* kModules = "numpy, torch";
constexpr const char* kCheckModules =
    "import importlib.util, sys\n"
    "sys.exit(0 if all(map(importlib.util.find_spec, ('numpy', 'torch'))) else 1)";

Result<fs::path> own_path() {
  std::error_code problem;
  const fs::path path = fs::read_symlink("/proc/self/exe", problem);
  if (!problem) return path;
  return Status(Code::kIo, "/proc/self/exe: " + problem.message());
}

// The trainer, in the source tree around a build folder or beside an installed program.
Result<fs::path> find_trainer(const fs::path& program) {
  std::vector<fs::path> places;
  if (const char* folder = std::getenv("SPLITEE_TRAINING")) places.emplace_back(folder);
  const fs::path bin = program.parent_path();
  places.push_back(bin.parent_path().parent_path() / "tools" / "training");
  places.push_back(bin.parent_path() / "share" / "splitee" / "training");
  std::string looked;
  for (const fs::path& place : places) {
    std::error_code problem;
    if (fs::is_regular_file(place / "fit.py", problem)) return place / "fit.py";
    looked += " " + place.string();
  }
  return Status(Code::kNotFound, "the trainer, fit.py, is in none of" + looked +
                                     "; SPLITEE_TRAINING may name its folder");
}

// All executables named python3: $PYTHON, those of $PATH, Debian's.
std::vector<fs::path> pythons() {
  if (const char* given = std::getenv("PYTHON"); given != nullptr && *given != '\0') return {given};
  std::vector<fs::path> found;
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (!folder.empty()) found.push_back(fs::path(folder) / "python3");
  }
  found.emplace_back("/usr/bin/python3");
  std::vector<fs::path> result;
  for (const fs::path& python : found) {
    const bool known = std::find(result.begin(), result.end(), python) != result.end();
    if (!known && access(python.c_str(), X_OK) == 0) result.push_back(python);
  }
  return result;
}

// Exit status of a program without input or output; nothing where it could not be started.
std::optional<int> run_quietly(const std::vector<std::string>& arguments) {
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (const int fd : {0, 1, 2}) {
    posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
  }
  pid_t child = 0;
  const int problem = posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  if (problem != 0 || waitpid(child, &status, 0) < 0 || !WIFEXITED(status)) return {};
  return WEXITSTATUS(status);
}

Result<std::string> find_python() {
  std::string looked;
  for (const fs::path& python : pythons()) {
    const std::optional<int> status = run_quietly({python.string(), "-c", kCheckModules});
    if (status == 0) return python.string();
    looked += fmt::format("\n  {}: {}", python.string(),
                          status ? "lacks one of " + std::string(kModules) : "cannot be started");
  }
  return Status(
      Code::kNotFound,
      "training needs a python3 with PyTorch and NumPy, and none was found:" +
          (looked.empty() ? "\n  no python3 on the PATH" : looked) +
          "\nDebian and its relatives:  apt-get install python3-torch python3-numpy"
          "\nelsewhere:                 python3 -m venv fit && fit/bin/pip install torch numpy"
          "\n                           PYTHON=fit/bin/python3 splitee fit ...");
}

std::vector<std::string> trainer_arguments(const Flags& flags, const std::string& program) {
  std::vector<std::string> arguments = {flags.data,
                                        "--output",
                                        flags.output,
                                        "--seed",
                                        std::to_string(flags.seed),
                                        "--threads",
                                        std::to_string(flags.threads),
                                        "--minutes",
                                        fmt::format("{}", flags.minutes),
                                        "--dtype",
                                        flags.dtype,
                                        "--splitee",
                                        program};
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) arguments.insert(arguments.end(), {name, value});
  };
  add("--backbone", flags.backbone);
  add("--report", flags.report);
  add("--work", flags.work);
  if (flags.steps != 0) add("--steps", std::to_string(flags.steps));
  if (flags.keep) arguments.emplace_back("--keep");
  if (flags.fresh) arguments.emplace_back("--fresh");
  return arguments;
}

// Returns only where it fails. The trainer takes this process's place, so that signals, standard
// streams and exit status are its own.
Status fit(const Flags& flags) {
  const Result<fs::path> program = own_path();
  if (!program.ok()) return program.status();
  const Result<fs::path> trainer = find_trainer(*program);
  if (!trainer.ok()) return trainer.status();
  const Result<std::string> python = find_python();
  if (!python.ok()) return python.status();
  std::vector<std::string> arguments = {*python, trainer->string()};
  for (std::string& argument : trainer_arguments(flags, program->string())) {
    arguments.push_back(std::move(argument));
  }
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  execv(argv[0], argv.data());
  return Status(Code::kIo, *python + ": " + std::strerror(errno));
}

void add_files(CLI::App& command, Flags& flags) {
  command
      .add_option("data", flags.data,
                  "labelled texts: a TSV in UTF-8 whose first line names the columns text, label "
                  "and, for pairs, text2 (.xz is unpacked)")
      ->type_name("DATA.tsv")
      ->required();
  command
      .add_option("--output", flags.output, "the model to write; replaced as a whole or not at all")
      ->type_name("M.gguf")
      ->required();
  command
      .add_option("--backbone", flags.backbone,
                  "what to start from: a Hugging Face folder of an encoder, or a model of "
                  "ours (default: the default model)")
      ->type_name("DIR|FILE.gguf");
  command
      .add_option("--report", flags.report,
                  "folder for report.html and report.json; it is made where it is not there")
      ->type_name("DIR");
  command
      .add_option("--work", flags.work,
                  "folder of what an interrupted run goes on from (default: OUTPUT.fit); removed "
                  "at the end")
      ->type_name("DIR");
}

void add_training(CLI::App& command, Flags& flags) {
  command.add_flag("--keep", flags.keep,
                   "add exits to a fine-tuned model with one exit (--backbone), whose own weights "
                   "stay as they are: minutes, not half an hour");
  command.add_option("--minutes", flags.minutes, "time for everything, at most, minutes")
      ->type_name("N")
      ->check(number_within(0.05, 1e5))
      ->capture_default_str();
  command
      .add_option("--steps", flags.steps,
                  "training steps, instead of what the time allows: the same every time")
      ->type_name("N")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1'000'000'000}));
  command
      .add_option("--dtype", flags.dtype,
                  "number format of the model: auto takes the smallest of i8, bf16, f32 that "
                  "answers as f32 does: the same class to 99 % at every exit and no exit's "
                  "accuracy more than half a point below")
      ->type_name("WORD")
      ->check(CLI::IsMember({"auto", "i8", "bf16", "f32"}))
      ->capture_default_str();
  add_seed_flag(command, flags.seed, "seed of the division of the rows, and of training");
  command.add_option("--threads", flags.threads, "processor cores to use")
      ->type_name("N")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command.add_flag("--fresh", flags.fresh, "do not go on from an interrupted run");
}

}  // namespace

void add_fit(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "fit", "Makes a calibrated multi-exit model from a table of labelled texts.");
  const auto flags = std::make_shared<Flags>();
  add_files(*command, *flags);
  add_training(*command, *flags);
  command->footer(
      "\nNeeds a python3 with PyTorch and NumPy (Debian: python3-torch; elsewhere: pip install "
      "torch\nnumpy), looked for on the PATH and in /usr/bin; PYTHON may name one.\n"
      "\nRows are divided into training, calibration and held-out rows such that no text, nor a "
      "phrase of\none, is on two sides; rows for which that cannot be had are set aside. All "
      "exits are trained\ntogether, and calibrated by a temperature each. Labels are class names "
      "or numbers, at least 2 and\nat most 4096; rare classes count more, so that none is given "
      "up.\n"
      "A run that was interrupted goes on when the same command is given again; while it runs, "
      "its work\nfolder is locked (fit.lock).\n"
      "\nThe model holds, besides weights, vocabulary and labels: temperatures, thresholds as of\n"
      "`splitee calibrate`, answers to 2,000 held-out rows, from which policies start, and the "
      "names of\nits training sets, so that a later fit can tell what a backbone has seen.\n"
      "report.json: samples {train, calibration, held_out, aside}, classes, counts, dtype, exits\n"
      "[{layer, accuracy, confidence, ece, agreement, macro_f1, temperature}] on held-out rows,\n"
      "formats (agreement with f32 and size of each), policies (cost and layers at 0.5, 1 and "
      "2 %\ndisagreement), warnings; shares, not percent. report.html: the same with plots.");
  command->callback([flags, &exit_code] { exit_code = finish("splitee fit", fit(*flags)); });
}

}  // namespace splitee::tools
