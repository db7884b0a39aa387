// The texts of a search, as a tree of words: each text once, with its LM state and score.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "id_map.hpp"
#include "lm/state.hh"
#include "words.hpp"

namespace hlas {

struct Weights {
  double alpha;
  double beta;
};

// How much the natural logarithm is of the common one, computed as pyctcdecode does.
const double kLn10 = 1.0 / std::log10(2.718281828459045);

struct Text {
  uint32_t parent = kNone;
  uint32_t word = Parts::kEmpty;  // the last one, a Part
  uint32_t last_words = 0;        // two texts with equal last words share the number
  double lm_score = 0;            // alpha * ln p(words) + beta * words, unknown words' offsets within
  double bonus = 0;               // of hotwords
  lm::ngram::State state;

  double score() const { return lm_score + bonus; }
};

class Texts {
 public:
  static constexpr uint32_t kEmpty = 0;

  Texts(const WordLm* lm, Parts* parts, double unk_score_offset)
      : lm_(lm), parts_(parts), unk_score_offset_(unk_score_offset) {}

  // Forget everything, begin with the empty text. `history`: words that last_words compares, 0 for none.
  void start(Weights weights, unsigned history);

  const Text& operator[](uint32_t text) const { return texts_[text]; }
  uint32_t size() const { return static_cast<uint32_t>(texts_.size()); }

  // The text followed by a word; the same text for the empty word.
  uint32_t append(uint32_t text, uint32_t word);
  // alpha * ln p(</s> | text)
  double end_score(uint32_t text) const;
  // No word that is appended adds more than this: a log probability is not above 0.
  double largest_gain() const {
    if (weights_.alpha < 0) return INFINITY;
    return (lm_ ? weights_.beta : 0) + parts_->largest_bonus();
  }
  // Words of a text, the first one first.
  std::vector<uint32_t> words(uint32_t text) const;

  // Keep only these texts and what they begin with; each is replaced by its new number.
  void keep(std::vector<uint32_t*> texts);

 private:
  uint32_t number_of_last_words(uint32_t text, uint32_t word);

  const WordLm* lm_;
  Parts* parts_;
  double unk_score_offset_;
  Weights weights_{};
  unsigned history_ = 0;
  std::vector<Text> texts_;
  IdMap children_{1 << 12};
  IdMap histories_{1 << 8};
  uint32_t next_history_ = 0;
};

}  // namespace hlas
