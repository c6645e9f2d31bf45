// Peers that speak version 1 of the protocol: bytes as that version's encoder wrote them. Each side
// refuses the other at the handshake, with both versions in words.
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include "tests/transport/server_peers.h"

namespace splitee::transport {
namespace {

using namespace testing;

struct Recorded {
  std::string_view name, header, payload;
};

// Of model abcdef0123456789; requests 1 and 2.
constexpr Recorded kRecorded[] = {
    {"hello",
     "53504c450100010001000000000000008967452301efcdab0000000000000000000000003321d9d8"
     "000000000000000005000000000000001000000000000000b483062496fda442",
     "010001001e0000000100000000000000"},
    {"tokens",
     "53504c450100030402000000000000008967452301efcdab000000000300000000000000e48fe2d3"
     "40420f000000000006000000000000000f00000000000000e8ae6a3e431d0415",
     "650000000700000066000000000001"},
    {"f32",
     "53504c450100030102000000000000008967452301efcdab010000000200000008000000d4999869"
     "40420f000000000006000000000000004000000000000000fc6b1b3c42342f80",
     "0000003f0000003f0000003f0000003f0000003f0000003f0000003f0000003f0000003f0000003f"
     "0000003f0000003f0000003f0000003f0000003f0000003f"},
    {"welcome",
     "53504c450100020001000000000000008967452301efcdab000000000000000000000000bb0333b9"
     "00000000000000000500000000000000200000000000000005a4198e1eda7e5a",
     "1e00000010000000040000000800000003000000040000000000000000000000"},
    {"refuse",
     "53504c450100050001000000000000008967452301efcdab000000000000000000000000884d93b8"
     "0000000000000000050000000000000023000000000000003622b6196ce4b020",
     "0600000070726f746f636f6c2076657273696f6e203220696e7374656164206f662031"},
};

Bytes from_hex(std::string_view text) {
  Bytes bytes;
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const int value = std::stoi(std::string(text.substr(i, 2)), nullptr, 16);
    bytes.push_back(static_cast<std::byte>(value));
  }
  return bytes;
}

Raw recorded(std::string_view name) {
  for (const Recorded& message : kRecorded) {
    if (message.name == name) return {from_hex(message.header), from_hex(message.payload)};
  }
  FAIL(std::string(name));
  return {};
}

// With another request id; the check follows.
Raw answering(Raw raw, const Message& asked) {
  std::memcpy(raw.header.data() + 8, &asked.envelope.request_id, 8);
  seal_header(std::span(raw.header).first<kHeaderBytes>());
  return raw;
}

}  // namespace

TEST_CASE("version 1: its messages are refused with both versions, in a refuse it can read") {
  RunningServer server(server_options());
  for (const char* name : {"hello", "tokens", "f32"}) {
    CAPTURE(name);
    RawEdge edge(server.endpoint());
    edge.send(recorded(name));
    Raw answer;
    REQUIRE(edge.receive_raw(answer));
    REQUIRE(answer.header.size() == kHeaderBytes);
    // All that version 1 looks at: version, type, id, and a header check that fits.
    CHECK(answer.header[4] == std::byte{1});
    CHECK(answer.header[6] == static_cast<std::byte>(MessageType::kRefuse));
    CHECK(readable_request_id(answer.header) == readable_request_id(recorded(name).header));
    Bytes sealed = answer.header;
    seal_header(std::span(sealed).first<kHeaderBytes>());
    CHECK(sealed == answer.header);
    REQUIRE(answer.payload.size() > 4);
    CHECK(answer.payload[0] == static_cast<std::byte>(RefuseCode::kUnsupportedVersion));
    const std::string text(reinterpret_cast<const char*>(answer.payload.data()) + 4,
                           answer.payload.size() - 4);
    CHECK(text == "the other side speaks protocol version 1, this one 2");
  }
  // Who speaks the right version is served as before.
  CHECK(offloads_well(*ready_client(server), 1));
}

TEST_CASE("version 1: its server is named with both versions, and nothing is sent to it") {
  for (const char* name : {"welcome", "refuse"}) {
    CAPTURE(name);
    FakeServer server([&](const Message& message) -> std::vector<Raw> {
      return {answering(recorded(name), message)};
    });
    const auto client = make_client(client_options({server.endpoint()}));
    CHECK(eventually([&] {
      client->available();
      return client->last_problem().find("protocol version 1, this one 2") != std::string::npos;
    }));
    CHECK_FALSE(client->available());
    CHECK(server.infers() == 0);
  }
}

}  // namespace splitee::transport
