// A hash map from pairs of numbers to a number: open addressing, cleared without touching its memory.
#pragma once

#include <cstdint>
#include <vector>

namespace hlas {

constexpr uint32_t kNone = UINT32_MAX;

class IdMap {
 public:
  explicit IdMap(size_t capacity = 1024) : slots_(capacity), mask_(capacity - 1) {}

  void clear() {
    size_ = 0;
    if (++generation_ == 0) {  // the counter has run round: old slots would look new
      for (Slot& slot : slots_) slot.generation = 0;
      generation_ = 1;
    }
  }

  // The value of a pair, kNone where there is none.
  uint32_t find(uint32_t a, uint32_t b) const {
    const uint64_t key = pack(a, b);
    for (size_t i = hash(key) & mask_;; i = (i + 1) & mask_) {
      const Slot& slot = slots_[i];
      if (slot.generation != generation_) return kNone;
      if (slot.key == key) return slot.value;
    }
  }

  // The value's place, kNone in it where the pair is new; good until the next call.
  uint32_t& at(uint32_t a, uint32_t b) {
    if (size_ * 2 >= slots_.size()) grow();
    const uint64_t key = pack(a, b);
    for (size_t i = hash(key) & mask_;; i = (i + 1) & mask_) {
      Slot& slot = slots_[i];
      if (slot.generation != generation_) {
        slot = {key, kNone, generation_};
        ++size_;
        return slot.value;
      }
      if (slot.key == key) return slot.value;
    }
  }

 private:
  struct Slot {
    uint64_t key = 0;
    uint32_t value = kNone;
    uint32_t generation = 0;
  };

  static uint64_t pack(uint32_t a, uint32_t b) { return static_cast<uint64_t>(a) << 32 | b; }

  static size_t hash(uint64_t key) {
    key *= 0x9E3779B97F4A7C15ull;  // 2^64 over the golden ratio (Knuth, multiplicative hashing)
    return static_cast<size_t>(key ^ key >> 29);
  }

  void grow() {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    mask_ = slots_.size() - 1;
    const uint32_t current = generation_;
    generation_ = 1;
    size_ = 0;
    for (const Slot& slot : old)
      if (slot.generation == current) at(static_cast<uint32_t>(slot.key >> 32), static_cast<uint32_t>(slot.key)) = slot.value;
  }

  std::vector<Slot> slots_;
  size_t mask_;
  size_t size_ = 0;
  uint32_t generation_ = 1;
};

}  // namespace hlas
