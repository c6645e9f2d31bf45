#include "tools/http/routes.h"

#include <utility>

#include "tools/http/protocol.h"

namespace splitee::tools {

namespace {

constexpr std::pair<std::string_view, HttpPage> kFixed[] = {
    {"/", HttpPage::kLivePage},
    {"/live.json", HttpPage::kLiveFigures},
    {"/metrics", HttpPage::kMetrics},
    {"/healthz", HttpPage::kHealth},
    {"/livez", HttpPage::kAlive},
    {"/v2", HttpPage::kServer},
    {"/v2/", HttpPage::kServer},
    {"/v2/health/live", HttpPage::kServerLive},
    {"/v2/health/ready", HttpPage::kServerReady},
};

bool take_prefix(std::string_view& path, std::string_view prefix) {
  if (!path.starts_with(prefix)) return false;
  path.remove_prefix(prefix.size());
  return true;
}

// Up to the next slash, or all of it.
std::string_view take_part(std::string_view& path) {
  const std::string_view part = path.substr(0, path.find('/'));
  path.remove_prefix(part.size());
  return part;
}

}  // namespace

HttpPage page_at(std::string_view path, std::string_view model_name) {
  for (const auto& [fixed, page] : kFixed) {
    if (path == fixed) return page;
  }
  if (!take_prefix(path, "/v2/models/")) return HttpPage::kUnknown;
  const bool known = take_part(path) == model_name;
  bool right_version = true;
  if (take_prefix(path, "/versions/")) right_version = take_part(path) == kModelVersion;
  HttpPage page = HttpPage::kUnknown;
  if (path.empty()) page = HttpPage::kModel;
  if (path == "/ready") page = HttpPage::kModelReady;
  if (path == "/infer") page = HttpPage::kInfer;
  if (page == HttpPage::kUnknown) return page;
  if (!known) return HttpPage::kUnknownModel;
  return right_version ? page : HttpPage::kUnknownVersion;
}

bool is_open_to_all(HttpPage page) {
  switch (page) {
    case HttpPage::kLivePage:
    case HttpPage::kHealth:
    case HttpPage::kAlive:
    case HttpPage::kServerLive:
    case HttpPage::kServerReady:
      return true;
    default:
      return false;
  }
}

}  // namespace splitee::tools
