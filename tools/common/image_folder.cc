// A folder of pictures as the table that lists them.
#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>

#include "tools/common/row_parser.h"

namespace splitee::tools {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 5> kEndings = {".png", ".jpg", ".jpeg", ".pgm", ".ppm"};

// Paths of the pictures, from `folder` on, sorted; what cannot be read, a link to nothing say, is
// named where it is read. Links to folders are not followed.
Result<std::vector<std::string>> find_pictures(const std::string& folder) {
  std::vector<std::string> found;
  std::error_code error;
  fs::recursive_directory_iterator next(folder, error);
  for (const fs::recursive_directory_iterator end; !error && next != end; next.increment(error)) {
    std::error_code gone;
    if (next->path().filename().string().starts_with('.')) {
      next.disable_recursion_pending();
    } else if (names_picture(next->path().string()) && !next->is_directory(gone)) {
      found.push_back(next->path().string().substr(folder.size()));
    }
  }
  if (error) return Status(Code::kIo, folder + ": cannot list: " + error.message());
  if (found.empty()) {
    return Status(Code::kNotFound, folder + ": holds no pictures (.png, .jpg, .jpeg, .pgm, .ppm)");
  }
  std::ranges::sort(found);
  return found;
}

// The folder right in the one listed; empty where there is none.
std::string_view class_folder(std::string_view path) {
  const std::size_t slash = path.find('/');
  return slash == path.npos ? std::string_view() : path.substr(0, slash);
}

// Whether the folders' names are classes: all of them, or none.
Result<bool> names_are_classes(const std::string& folder, const std::vector<std::string>& paths,
                               const runtime::NetworkInfo& info) {
  const LabelParser labels(info);
  std::string_view known, other, last;
  for (const std::string& path : paths) {
    const std::string_view name = class_folder(path);
    if (name.empty() || name == last) continue;
    last = name;
    (labels.parse(name).ok() ? known : other) = name;
  }
  if (!known.empty() && !other.empty()) {
    return Status(Code::kCorrupt, fmt::format("{}: the folder '{}' is called as a class of the "
                                              "model is, but '{}' is not; classes: {}",
                                              folder, known, other, fmt::join(info.labels, ", ")));
  }
  return !known.empty();
}

}  // namespace

bool names_picture(std::string_view path) {
  std::string ending = fs::path(path).extension().string();
  std::ranges::transform(ending, ending.begin(), [](unsigned char c) { return std::tolower(c); });
  return std::ranges::find(kEndings, ending) != kEndings.end();
}

Result<std::string> table_of_folder(const std::string& folder, const runtime::NetworkInfo& info) {
  const Result<std::vector<std::string>> paths = find_pictures(folder);
  if (!paths.ok()) return paths.status();
  const Result<bool> labelled = names_are_classes(folder, *paths, info);
  if (!labelled.ok()) return labelled.status();
  std::string table = *labelled ? "path\tlabel\n" : "path\n";
  for (const std::string& path : *paths) {
    if (path.find_first_of("\t\r\n") != path.npos) {
      return Status(Code::kUnsupported,
                    fmt::format("{}: the name of a picture has a tab or a line end: {}", folder,
                                path.substr(0, path.find_first_of("\t\r\n"))));
    }
    table += *labelled ? fmt::format("{}\t{}\n", path, class_folder(path)) : path + "\n";
  }
  return table;
}

}  // namespace splitee::tools
