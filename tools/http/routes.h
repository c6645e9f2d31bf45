// What a path asks for.
// Thread rule: pure functions.
#pragma once

#include <string>
#include <string_view>

namespace splitee::tools {

enum class HttpPage {
  kLivePage,     // /
  kLiveFigures,  // /live.json
  kMetrics,      // /metrics
  kHealth,       // /healthz
  kAlive,        // /livez
  kServer,       // /v2
  kServerLive,   // /v2/health/live
  kServerReady,  // /v2/health/ready
  kModel,        // /v2/models/NAME, here and below also with /versions/1
  kModelReady,   // /v2/models/NAME/ready
  kInfer,        // /v2/models/NAME/infer
  kUnknown,
  kUnknownModel,
  kUnknownVersion,
};

HttpPage page_at(std::string_view path, std::string_view model_name);

// Whether anybody may see it: checks of health, and what holds nothing to hide.
bool is_open_to_all(HttpPage page);

}  // namespace splitee::tools
