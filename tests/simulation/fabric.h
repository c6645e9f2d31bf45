// The simulated network: connections that keep the order of their packets, over paths that delay,
// block, break, corrupt and repeat them, and now and then let one overtake another.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/simulation/world.h"
#include "transport/wire/wire.h"

namespace splitee::simulation {

// One message, as two frames.
struct Packet {
  std::vector<std::byte> header, payload;
  std::size_t size() const { return header.size() + payload.size(); }
};
using PacketPtr = std::shared_ptr<const Packet>;
PacketPtr to_packet(const transport::Frames& frames);

// Hosts speak two versions of the protocol with the code of one: a host of version 1 reads and
// writes what its code takes for the present version as the next one. Damage stays damage.
std::uint16_t version_of(const Packet& packet);  // 0: none that can be read
PacketPtr with_version(PacketPtr packet, int shift);

class Host;
enum Direction { kUp = 0, kDown = 1 };  // client to server, server to client

struct Connection {
  struct Pipe {
    std::deque<PacketPtr> held;  // arrived at a block; null: the end of the connection
    std::int64_t last_arrival_us = 0;
    std::size_t on_the_way = 0;
    std::deque<PacketPtr> past;  // the last ones sent
  };
  std::uint64_t id = 0;
  std::size_t client_id = 0, server_id = 0, link = 0;
  Host* client = nullptr;  // null once that end is closed
  Host* server = nullptr;
  bool established = false;
  std::string peer;  // routing id at the server
  std::array<Pipe, 2> pipe;
};
using ConnectionPtr = std::shared_ptr<Connection>;

class Host {
 public:
  virtual ~Host() = default;
  virtual bool accepts() const { return false; }
  virtual void on_packet(const ConnectionPtr& connection, PacketPtr packet) = 0;
  virtual void on_end(const ConnectionPtr& connection) = 0;  // the other side is gone
  virtual void on_established(const ConnectionPtr&) {}
};

// Between one client and one server.
struct Path {
  std::int64_t delay_us = 1'000, jitter_us = 0;
  std::array<bool, 2> blocked{};
  double break_probability = 0, corrupt_probability = 0, repeat_probability = 0;
  double reorder_probability = 0, replay_probability = 0;
};

class Fabric {
 public:
  explicit Fabric(World& world) : world_(world) {}

  Path& path(std::size_t client_id, std::size_t server_id) {
    return paths_[{client_id, server_id}];
  }
  std::map<std::pair<std::size_t, std::size_t>, Path>& paths() { return paths_; }

  // Tries until it succeeds or the client closes it.
  ConnectionPtr connect(Host& client, std::size_t client_id, Host& server, std::size_t server_id,
                        std::size_t link);
  // False where it cannot be sent now: not established, peer gone, too much on the way.
  bool send(const ConnectionPtr& connection, Direction direction, PacketPtr packet);
  void close_client(const ConnectionPtr& connection);
  void close_server(const ConnectionPtr& connection);
  // Lets go what a block has held.
  void unblock(std::size_t client_id, std::size_t server_id);
  // What was sent before is not repeated any more.
  void forget();
  // A packet that some client sent not long ago; null where there was none.
  PacketPtr overheard();

 private:
  void try_connect(const ConnectionPtr& connection);
  void forward(const ConnectionPtr& connection, Direction direction, PacketPtr packet);
  void arrive(const ConnectionPtr& connection, Direction direction, const PacketPtr& packet);
  void hand_over(const ConnectionPtr& connection, Direction direction, const PacketPtr& packet);
  PacketPtr corrupt(const Packet& packet);
  PacketPtr any_of(const std::deque<PacketPtr>& packets);
  std::int64_t delay(const Path& path);

  World& world_;
  std::map<std::pair<std::size_t, std::size_t>, Path> paths_;
  std::vector<std::weak_ptr<Connection>> connections_;
  std::deque<PacketPtr> heard_;
  std::uint64_t next_id_ = 1;
};

}  // namespace splitee::simulation
