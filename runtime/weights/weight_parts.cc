#include "runtime/weights/weight_parts.h"

#include <algorithm>
#include <new>
#include <string>

namespace splitee::runtime {

WeightParts::WeightParts(std::shared_ptr<const ModelBytes> bytes, const kernels::Kernels& kernels,
                         std::vector<PartPlan> plans)
    : bytes_(std::move(bytes)), kernels_(kernels), parts_(plans.size()) {
  for (std::size_t i = 0; i < plans.size(); ++i) parts_[i].plan = std::move(plans[i]);
}

Result<std::unique_ptr<WeightParts>> WeightParts::create(std::shared_ptr<const ModelBytes> bytes,
                                                         const Gguf& file,
                                                         const kernels::Kernels& kernels,
                                                         std::vector<PartPlan> plans, bool exact) {
  std::unique_ptr<WeightParts> made(new WeightParts(std::move(bytes), kernels, std::move(plans)));
  CheckedSize total = 0;
  for (Part& part : made->parts_) {
    choose_kernels(part.plan, kernels, exact);
    if (total.ok()) part.packed_offset = total.value();
    total = total + packed_bytes(part.plan);
  }
  if (!total.ok()) return file.error(Code::kUnsupported, "too large for this machine");
  Result<PageMemory> packed = PageMemory::allocate(total.value(), PageMemory::Use::kDense);
  if (!packed.ok()) return file.error(packed.status().code(), packed.status().message());
  made->packed_ = std::move(*packed);
  return made;
}

Status WeightParts::load_layers(std::size_t from, std::size_t to,
                                std::span<const std::size_t> exit_layers, bool exit_wanted) const {
  const std::size_t layers = parts_.size() - exit_layers.size();
  SPLITEE_CHECK(from <= to && to <= layers);
  std::vector<const Part*> missing;
  const auto need = [&](std::size_t part) {
    if (!there(part)) missing.push_back(&parts_[part]);
  };
  for (std::size_t layer = from; layer < to; ++layer) need(layer);
  const auto exit = std::ranges::find(exit_layers, to);
  if (exit_wanted && exit != exit_layers.end()) {
    need(layers + static_cast<std::size_t>(exit - exit_layers.begin()));
  }
  return missing.empty() ? Status() : load(std::move(missing));
}

Status WeightParts::load(std::vector<const Part*> missing) const {
  const std::lock_guard lock(mutex_);
  try {
    std::erase_if(missing,
                  [](const Part* part) { return part->there.load(std::memory_order_relaxed); });
    CheckedSize size = 0;
    for (const Part* part : missing) size = size + packed_bytes(part->plan);
    if (missing.empty()) return {};
    WeightLoader loader(*bytes_, kernels_, size.value());
    for (const Part* part : missing) {
      std::byte* packed = packed_.data() + part->packed_offset;
      if (Status s = loader.load(part->plan, packed); !s.ok()) return s;
      part->there.store(true, std::memory_order_release);
    }
  } catch (const std::bad_alloc&) {
    return {Code::kIo, bytes_->name() + ": not enough memory to load it"};
  }
  return {};
}

Status WeightParts::load_all() const {
  std::vector<const Part*> all;
  for (const Part& part : parts_) all.push_back(&part);
  return load(std::move(all));
}

}  // namespace splitee::runtime
