// One HTTP request and its answer, apart from the library that carries them.
// Thread rule: the request belongs to the handler; answer() may be called from any thread, once.
// Ownership: shared by the connection and whoever answers; it outlives the connection.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace splitee::tools {

struct HttpResponse {
  unsigned status = 200;
  std::string type = "text/plain";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers{};
};

struct HttpRequest {
  std::string method, path;  // the path without its query, percent signs resolved
  // Looks a header up, whatever its case; empty where there is none.
  std::function<std::string(const char* name)> header;
  bool has_body = false;  // announced by the headers
  std::string body;
};

class HttpExchange {
 public:
  virtual ~HttpExchange() = default;
  virtual void answer(HttpResponse response) = 0;
  HttpRequest request;
};

// What a listener asks of its owner; both from its own threads, one call at a time for each address
// listened on.
class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // Before the body is read: whether it is to be. False: refuse() was answered.
  virtual bool wants(HttpExchange& exchange) = 0;
  // With the whole body. Answers now or later.
  virtual void handle(const std::shared_ptr<HttpExchange>& exchange) = 0;
};

// {"error": "..."}, as the Open Inference Protocol has it.
HttpResponse json_error(unsigned status, const std::string& message);

}  // namespace splitee::tools
