// Log-probs of one utterance: normalised as they are read, and cut down to the labels that a frame is worth trying.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace hlas {

enum class Float { f16 = 2, f32 = 4, f64 = 8 };  // by their bytes

struct BadFrame {
  int64_t frame;
};

struct Tried {
  uint32_t label;
  double logp;
};

// The labels that are tried at each frame, by label: those of at least `token_min_logp`, or the best one.
class Frames {
 public:
  // data: (frames, columns), natural log, row after row. Throws BadFrame where a frame is no distribution.
  void load(const void* data, int64_t frames, uint32_t columns, Float type, double token_min_logp);

  int64_t size() const { return static_cast<int64_t>(first_.size()) - 1; }
  const Tried* begin(int64_t frame) const { return tried_.data() + first_[frame]; }
  const Tried* end(int64_t frame) const { return tried_.data() + first_[frame + 1]; }

 private:
  template <class Read>
  void load_as(int64_t frames, uint32_t columns, double token_min_logp, Read read);
  void load_half(const uint16_t* data, int64_t frames, uint32_t columns, double token_min_logp);
  template <class Read>
  void slow_frame(int64_t frame, uint32_t columns, double token_min_logp, Read read);

  std::vector<Tried> tried_;
  std::vector<size_t> first_;
};

}  // namespace hlas
