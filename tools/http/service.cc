#include "tools/http/service.h"

#include <algorithm>
#include <charconv>
#include <iterator>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/resource.h>

#include "tools/common/flags.h"
#include "tools/http/address.h"
#include "tools/http/live_page.h"
#include "tools/http/routes.h"

namespace splitee::tools {

namespace {

using nlohmann::ordered_json;

constexpr const char* kFlag = "--http";
constexpr const char* kJson = "application/json";
// Where rows are files: the largest picture as base64, or some smaller ones.
constexpr std::size_t kFileBodyBytes = std::size_t{21} << 20;
constexpr std::size_t kAllFileBodyBytes = std::size_t{64} << 20;

HttpResponse json_page(const ordered_json& json, unsigned status = 200) {
  return {status, kJson, json.dump(-1, ' ', false, ordered_json::error_handler_t::replace)};
}

std::string lower_case(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

// The type of a body without its parameters, in lower case.
std::string content_type(const HttpRequest& request) {
  std::string type = request.header("Content-Type");
  type.resize(std::min(type.size(), type.find(';')));
  while (type.ends_with(' ')) type.pop_back();
  return lower_case(std::move(type));
}

// What the header kJsonLengthHeader says; nothing where there is none.
Result<std::optional<std::size_t>> json_length(const HttpRequest& request) {
  const std::string text = request.header(kJsonLengthHeader);
  if (text.empty()) return std::optional<std::size_t>();
  std::size_t bytes = 0;
  const auto [stop, problem] = std::from_chars(text.data(), text.data() + text.size(), bytes);
  if (problem == std::errc() && stop == text.data() + text.size()) return std::optional(bytes);
  return Status(Code::kInvalidArgument, std::string(kJsonLengthHeader) + " is not a whole number");
}

bool is_read(const std::string& method) {
  return method == "GET" || method == "HEAD";
}

}  // namespace

std::size_t http_connections() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return HttpLimits().connections;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return HttpLimits().connections;
  return std::clamp<std::size_t>(limit.rlim_cur / 2, 1, HttpLimits().connections);
}

Result<std::unique_ptr<HttpService>> HttpService::start(const HttpFlags& flags,
                                                        InferBackend& backend) {
  const Result<HostPort> address = parse_host_port(kFlag, flags.endpoint);
  if (!address.ok()) return address.status();
  std::unique_ptr<HttpService> service(new HttpService(backend));
  const bool loopback = is_loopback_host(address->host);
  if (!flags.token_path.empty()) {
    Result<std::string> token = read_token(flags.token_path);
    if (!token.ok()) return token.status();
    service->token_ = std::move(*token);
  } else if (!loopback && !flags.insecure) {
    return Status(Code::kUnsupported,
                  fmt::format("--http {} can be reached from other machines: give "
                              "--http-token-file, or --insecure to do without",
                              flags.endpoint));
  }
  service->fixed_hosts_ = loopback && service->token_.empty();
  HttpLimits limits;
  limits.connections = http_connections();
  if (backend.served()->protocol.takes_files()) {
    limits.body_bytes = kFileBodyBytes;
    limits.all_body_bytes = kAllFileBodyBytes;
  }
  auto listener = HttpListener::start(kFlag, flags.endpoint, limits, *service);
  if (!listener.ok()) return listener.status();
  service->listener_ = std::move(*listener);
  return service;
}

HttpService::~HttpService() {
  listener_.reset();
}

void HttpService::answer(HttpExchange& exchange, HttpResponse response) {
  ++answers_[std::min<std::size_t>(response.status / 100, answers_.size() - 1)];
  response.headers.emplace_back("Cache-Control", "no-store");
  response.headers.emplace_back("X-Content-Type-Options", "nosniff");
  response.headers.emplace_back("Cross-Origin-Resource-Policy", "same-origin");
  exchange.answer(std::move(response));
}

bool HttpService::wants(HttpExchange& exchange) {
  std::optional<HttpResponse> refused = refusal(exchange.request);
  if (!refused) return true;
  answer(exchange, std::move(*refused));
  return false;
}

std::optional<HttpResponse> HttpService::refusal(const HttpRequest& request) const {
  const std::string host(host_of(request.header("Host")));
  if (fixed_hosts_ && !host.empty() && !is_fixed_host(host)) {
    return json_error(403, fmt::format("Host {}: not a name of this machine's loopback; use "
                                       "localhost, or give the program --http-token-file",
                                       host));
  }
  const HttpPage at = page_at(request.path, backend_.served()->protocol.model_name());
  if (at == HttpPage::kUnknown) return json_error(404, "no such page; see /v2 and /");
  if (!token_.empty() && !is_open_to_all(at) &&
      !equal_secret(request.header("Authorization"), "Bearer " + token_)) {
    HttpResponse response = json_error(401, "Authorization: Bearer TOKEN is needed");
    response.headers.emplace_back("WWW-Authenticate", "Bearer");
    return response;
  }
  if (at == HttpPage::kUnknownModel || at == HttpPage::kUnknownVersion) {
    return json_error(404, fmt::format("unknown model or version; there is '{}', version {}",
                                       backend_.served()->protocol.model_name(), kModelVersion));
  }
  if (at == HttpPage::kInfer) return post_refusal(request);
  if (is_read(request.method)) return std::nullopt;
  HttpResponse response = json_error(405, "only GET and HEAD");
  response.headers.emplace_back("Allow", "GET, HEAD");
  return response;
}

std::optional<HttpResponse> HttpService::post_refusal(const HttpRequest& request) const {
  if (request.method != "POST") {
    HttpResponse response = json_error(405, "only POST");
    response.headers.emplace_back("Allow", "POST");
    return response;
  }
  if (is_cross_origin(request)) return json_error(403, "a page of another origin may not ask");
  // A page's request must be one that browsers ask about before they send it elsewhere. Programs
  // say what they like: curl calls everything a form.
  const bool binary = !request.header(kJsonLengthHeader).empty();
  if (is_from_browser(request) && !binary && content_type(request) != kJson)
    return json_error(415, "Content-Type must be application/json");
  const std::string coding = request.header("Content-Encoding");
  if (!coding.empty() && lower_case(coding) != "identity") {
    return json_error(415, "Content-Encoding: bodies must come as they are, not compressed");
  }
  if (draining_) return json_error(503, "shutting down");
  return std::nullopt;
}

void HttpService::handle(const std::shared_ptr<HttpExchange>& exchange) {
  const HttpRequest& request = exchange->request;
  switch (page_at(request.path, backend_.served()->protocol.model_name())) {
    case HttpPage::kInfer:
      return infer(exchange);
    case HttpPage::kLiveFigures:
      return figures(exchange, InferBackend::Figures::kLive);
    case HttpPage::kMetrics:
      return figures(exchange, InferBackend::Figures::kMetrics);
    default:
      return answer(*exchange, page(request));
  }
}

HttpResponse HttpService::page(const HttpRequest& request) const {
  const auto served = backend_.served();
  const std::string& model = served->protocol.model_name();
  const bool ready = !draining_;
  switch (page_at(request.path, model)) {
    case HttpPage::kLivePage:
      return {
          200,
          "text/html; charset=utf-8",
          std::string(live_page()),
          {{"Content-Security-Policy", live_page_policy()}, {"Referrer-Policy", "no-referrer"}}};
    case HttpPage::kHealth:
      return {ready ? 200U : 503U, "text/plain", ready ? "ok\n" : "draining\n"};
    case HttpPage::kAlive:
      return {.body = "ok\n"};
    case HttpPage::kServer:
      return json_page({{"name", "splitee"},
                        {"version", SPLITEE_VERSION},
                        {"extensions", {"binary_tensor_data"}}});
    case HttpPage::kServerLive:
      return json_page({{"live", true}});
    case HttpPage::kServerReady:
      return json_page({{"ready", ready}}, ready ? 200 : 400);
    case HttpPage::kModel:
      return {200, kJson, served->protocol.metadata()};
    case HttpPage::kModelReady:
      return json_page({{"name", model}, {"ready", ready}}, ready ? 200 : 400);
    default:
      return json_error(404, "no such page");  // the model was replaced meanwhile
  }
}

void HttpService::infer(const std::shared_ptr<HttpExchange>& exchange) {
  const auto fail = [&](unsigned status, const std::string& message) {
    answer(*exchange, json_error(status, message));
  };
  const auto length = json_length(exchange->request);
  if (!length.ok()) return fail(400, length.status().message());
  std::shared_ptr<const ServedNetwork> served = backend_.served();
  Result<InferRequest> request = served->protocol.parse(exchange->request.body, *length);
  if (!request.ok()) return fail(400, request.status().message());
  std::string().swap(exchange->request.body);
  const auto job = std::make_shared<InferJob>(
      std::move(served), std::move(*request),
      [this, exchange](HttpResponse response) { answer(*exchange, std::move(response)); });
  if (draining_ || !backend_.submit(job)) {
    HttpResponse busy = json_error(503, draining_ ? "shutting down" : "too much waits; try later");
    busy.headers.emplace_back("Retry-After", "1");
    answer(*exchange, std::move(busy));
  }
}

void HttpService::figures(const std::shared_ptr<HttpExchange>& exchange,
                          InferBackend::Figures which) {
  backend_.figures(which, [this, exchange, which](std::string text) {
    const bool metrics = which == InferBackend::Figures::kMetrics;
    if (metrics) text += http_metrics();
    answer(*exchange, {200, metrics ? "text/plain; version=0.0.4" : kJson, std::move(text)});
  });
}

std::string HttpService::http_metrics() const {
  std::string text =
      "# HELP splitee_http_answers_total Answers over HTTP, by the status\n"
      "# TYPE splitee_http_answers_total counter\n";
  for (const std::size_t hundreds : {2U, 4U, 5U}) {
    fmt::format_to(std::back_inserter(text), "splitee_http_answers_total{{status=\"{}xx\"}} {}\n",
                   hundreds, answers_[hundreds].load());
  }
  return text;
}

}  // namespace splitee::tools
