// The functions that JavaScript calls. Each answers with JSON, {"error": "..."} where it failed,
// which is valid until the next call; texts are UTF-8 with their length. No exception reaches
// JavaScript.
#include <cstddef>
#include <exception>
#include <new>
#include <string>

#include "web/page.h"

namespace splitee::web {
namespace {

Page& page() {
  static Page one;
  return one;
}

template <class Call>
const char* answer(const Call& call) {
  static std::string text;
  Json json;
  try {
    Result<Json> result = call();
    json = result.ok() ? std::move(*result) : Json{{"error", result.status().message()}};
  } catch (const std::bad_alloc&) {
    json = {{"error", "the browser gives no more memory"}};
  } catch (const std::exception& problem) {
    json = {{"error", problem.what()}};
  }
  text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.c_str();
}

}  // namespace
}  // namespace splitee::web

using splitee::web::answer;
using splitee::web::page;

extern "C" {

const char* splitee_open(const char* name, const void* bytes, std::size_t size,
                         const char* target) {
  return answer([=] {
    return page().open(name, {static_cast<const std::byte*>(bytes), size}, target);
  });
}

const char* splitee_classify(const char* text, std::size_t size, double alpha) {
  return answer([=] { return page().classify({text, size}, alpha); });
}

const char* splitee_stream_clear() {
  page().clear_stream();
  return "{}";
}

const char* splitee_stream_add(const char* text, std::size_t size, int label) {
  return answer([=] { return page().add_to_stream({text, size}, label); });
}

const char* splitee_stream_load(const char* name, const char* csv, std::size_t size) {
  return answer([=] { return page().load_stream(name, {csv, size}); });
}

const char* splitee_replay(const char* settings, std::size_t size) {
  return answer([=] { return page().replay({settings, size}); });
}

const char* splitee_policies() {
  return answer([] { return splitee::Result<splitee::web::Json>(splitee::web::Page::policies()); });
}
}
