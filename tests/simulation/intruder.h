// A peer that wishes the server ill: broken and stolen messages, out of order, at any time.
#pragma once

#include "tests/simulation/fabric.h"
#include "tests/simulation/sim_server.h"

namespace splitee::simulation {

class Intruder : public Host {
 public:
  Intruder(World& world, Fabric& fabric, std::size_t id, SimServer& server)
      : world_(world), fabric_(fabric), id_(id), server_(server) {}

  // Attacks until stop(). A stranger never says hello, not even with a stolen one.
  void start(std::int64_t interval_us, bool stranger);
  void stop() { active_ = false; }

  void on_packet(const ConnectionPtr&, PacketPtr packet) override;
  void on_end(const ConnectionPtr&) override { connection_ = nullptr; }

 private:
  void attack();
  PacketPtr message();

  World& world_;
  Fabric& fabric_;
  std::size_t id_;
  SimServer& server_;
  bool active_ = false, stranger_ = false;
  std::int64_t interval_us_ = 0;
  ConnectionPtr connection_;
  std::uint64_t next_id_ = 1;
};

}  // namespace splitee::simulation
