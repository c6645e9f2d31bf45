// Parts of HTTP that need no sockets: who asks, what a path means, the queue of rows.
#include <map>
#include <thread>

#include <doctest/doctest.h>

#include "tools/http/address.h"
#include "tools/http/routes.h"
#include "tools/http/row_queue.h"

using namespace splitee;
using namespace splitee::tools;

namespace {

HttpRequest request_with(std::map<std::string, std::string> headers) {
  HttpRequest request;
  request.header = [headers = std::move(headers)](const char* name) {
    const auto found = headers.find(name);
    return found == headers.end() ? std::string() : found->second;
  };
  return request;
}

std::shared_ptr<const ServedNetwork> served() {
  runtime::NetworkInfo info;
  info.labels = {"no", "yes"};
  info.exit_layers = {1};
  return std::make_shared<ServedNetwork>(
      ServedNetwork{nullptr, InferProtocol(info, "m", Role::kServer)});
}

// A job of `rows` rows that leaves its answer's status in `status`.
std::shared_ptr<InferJob> job_of(std::size_t rows, unsigned& status) {
  InferRequest request;
  request.rows.resize(rows);
  request.outputs = {{OutputKind::kLabel}};
  return std::make_shared<InferJob>(served(), std::move(request),
                                    [&status](HttpResponse answer) { status = answer.status; });
}

const RowAnswer kAnswer{.class_index = 1, .confidence = 1, .exit_layer = 1};

}  // namespace

TEST_CASE("hosts: what only this machine can be behind") {
  for (const char* host : {"localhost", "127.0.0.1", "127.9.9.9", "::1"})
    CHECK(is_loopback_host(host));
  for (const char* host : {"0.0.0.0", "::", "10.0.0.1", "example.org", "*", "127.0.0.1.evil.org"}) {
    CHECK_FALSE(is_loopback_host(host));
  }
  for (const char* host : {"localhost", "10.0.0.1", "::1"}) CHECK(is_fixed_host(host));
  for (const char* host : {"localhost.evil.org", "evil.org", "", "127.0.0.1.evil.org"}) {
    CHECK_FALSE(is_fixed_host(host));
  }
  CHECK_FALSE(is_fixed_host(std::string_view("127.0.0.1\0.evil.org", 19)));
  CHECK(host_of("[::1]:80") == "::1");
  CHECK(host_of("[::1") == "[::1");
  CHECK(host_of("a.b:80") == "a.b");
  CHECK(host_of("a.b") == "a.b");
  CHECK(parse_host_port("--http", "[::1]:80")->host == "::1");
  CHECK(parse_host_port("--http", "a:0")->port == 0);
  for (const char* wrong : {"", ":", "a", "a:", ":1", "a:b", "a:-1", "a:-0", "a:*", "a:65536",
                            "a:1 ", "a b:1", "http://a:1", "[]:1", "[::1:1", "[[a]]:1"}) {
    CHECK_FALSE(parse_host_port("--http", wrong).ok());
  }
}

TEST_CASE("origins: a page of elsewhere is told from our own and from programs") {
  CHECK_FALSE(is_cross_origin(request_with({{"Host", "h:1"}})));
  CHECK_FALSE(is_cross_origin(request_with({{"Host", "h:1"}, {"Origin", "http://h:1"}})));
  CHECK_FALSE(is_cross_origin(request_with({{"Host", "h"}, {"Origin", "https://h"}})));
  CHECK(is_cross_origin(request_with({{"Host", "h:1"}, {"Origin", "http://h:2"}})));
  CHECK(is_cross_origin(request_with({{"Host", "h:1"}, {"Origin", "null"}})));
  CHECK(is_cross_origin(request_with({{"Host", "h:1"}, {"Origin", "h:1"}})));
  CHECK(is_cross_origin(request_with({{"Sec-Fetch-Site", "cross-site"}})));
  CHECK_FALSE(is_cross_origin(request_with({{"Sec-Fetch-Site", "none"}})));
  CHECK_FALSE(is_from_browser(request_with({{"Host", "h"}})));
  CHECK(is_from_browser(request_with({{"Origin", "null"}})));
}

TEST_CASE("secrets are equal only where all of them is") {
  CHECK(equal_secret("abc", "abc"));
  for (const char* other : {"", "ab", "abcd", "abd", "Abc", "abcabc"}) {
    CHECK_FALSE(equal_secret(other, "abc"));
  }
  CHECK_FALSE(equal_secret("a", ""));
}

TEST_CASE("paths") {
  CHECK(page_at("/v2/models/m/infer", "m") == HttpPage::kInfer);
  CHECK(page_at("/v2/models/m/versions/1/infer", "m") == HttpPage::kInfer);
  CHECK(page_at("/v2/models/m/versions/2/infer", "m") == HttpPage::kUnknownVersion);
  CHECK(page_at("/v2/models/n/infer", "m") == HttpPage::kUnknownModel);
  CHECK(page_at("/v2/models/m/ready", "m") == HttpPage::kModelReady);
  for (const char* path :
       {"", "//", "/v2/models/m/", "/v2/models/m/x", "/V2", "/v2/models/m/infer/"}) {
    CHECK(page_at(path, "m") == HttpPage::kUnknown);
  }
}

TEST_CASE("rows of several requests take turns") {
  unsigned first = 0, second = 0;
  RowQueue queue;
  REQUIRE(queue.push(job_of(3, first)));
  REQUIRE(queue.push(job_of(1, second)));
  CHECK(queue.rows_waiting() == 4);
  std::vector<JobRow> rows = queue.take(2);
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].job != rows[1].job);
  for (const JobRow& row : rows) row.job->finish(row.row, kAnswer);
  CHECK(second == 200);
  CHECK(first == 0);
  rows = queue.try_take(8);
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].row == 1);
  CHECK(rows[1].row == 2);
  rows[1].job->finish(2, kAnswer);
  CHECK(first == 0);
  rows[0].job->finish(1, kAnswer);
  CHECK(first == 200);
  CHECK(queue.try_take(1).empty());
}

TEST_CASE("a row that fails ends its request once the rows in work are done") {
  unsigned status = 0;
  RowQueue queue;
  REQUIRE(queue.push(job_of(4, status)));
  std::vector<JobRow> rows = queue.take(2);
  rows[0].job->fail(400, "no");
  CHECK(status == 0);
  CHECK(queue.try_take(2).empty());  // the others are dropped
  CHECK(status == 0);
  rows[1].job->finish(1, kAnswer);
  CHECK(status == 400);
  CHECK(queue.rows_waiting() == 0);
}

TEST_CASE("the queue is bounded, and closing it answers what waits") {
  unsigned status = 0, refused = 0, late = 0;
  RowQueue queue;
  REQUIRE(queue.push(job_of(RowQueue::kMaxRowsWaiting, status)));
  CHECK_FALSE(queue.push(job_of(1, refused)));
  std::thread taker([&] {
    while (!queue.take(1).empty()) std::this_thread::yield();
  });
  queue.close();
  taker.join();
  CHECK_FALSE(queue.push(job_of(1, late)));
  CHECK(refused == 0);
  CHECK(late == 0);
}

TEST_CASE("closing fails what was not taken") {
  unsigned status = 0;
  RowQueue queue;
  REQUIRE(queue.push(job_of(2, status)));
  queue.close();
  CHECK(status == 503);
}
