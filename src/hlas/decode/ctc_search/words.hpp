// The words of an LM and the beginnings of words that a search has met, each beginning once.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "id_map.hpp"
#include "lm/virtual_interface.hh"

namespace hlas {

using CodePoints = std::vector<uint32_t>;

CodePoints code_points(const std::string& utf8);

// A word n-gram model and the list of words that count as known. Read-only once it is made.
class WordLm {
 public:
  // words: UTF-8, one a line. Words that the model lacks are left out of the list, as pyctcdecode does.
  WordLm(const std::string& path, const std::string& words);
  ~WordLm();
  WordLm(const WordLm&) = delete;
  WordLm& operator=(const WordLm&) = delete;

  const lm::base::Model& model() const { return *model_; }
  const std::vector<std::string>& words() const { return words_; }  // sorted

 private:
  lm::base::Model* model_;
  std::vector<std::string> words_;
};

// What makes a word's score beside the n-gram model.
struct WordRules {
  double unk_score_offset = -10;
  std::vector<std::pair<std::string, double>> hotwords;
};

// A beginning of a word, or a whole word: a node of a trie by code points.
struct Part {
  uint32_t parent = kNone;
  uint32_t code_point = 0;
  uint32_t length = 0;     // code points
  uint32_t bytes = 0;      // in UTF-8
  uint32_t low = 0;        // the LM's words that begin so: [low, high) of its sorted list
  uint32_t high = 0;
  double score = 0;        // of the beginning, while the word is not complete
  bool looked_up = false;  // the fields below are set when the word is first completed
  bool unknown = false;
  lm::WordIndex index = 0;
  double bonus = 0;        // of the word where it is a hotword
};

class Parts {
 public:
  static constexpr uint32_t kEmpty = 0;

  Parts(const WordLm* lm, WordRules rules, std::vector<CodePoints> labels);

  const Part& operator[](uint32_t part) const { return parts_[part]; }
  uint32_t size() const { return static_cast<uint32_t>(parts_.size()); }

  // The part followed by a label's text.
  uint32_t extend(uint32_t part, uint32_t label);
  // The part without its last `length` code points.
  uint32_t strip(uint32_t part, size_t length) const;
  // The part as a complete word: its place in the LM's vocabulary, its bonus.
  const Part& word(uint32_t part);
  std::string text(uint32_t part) const;
  double largest_bonus() const { return largest_bonus_; }
  size_t label_length(uint32_t label) const { return labels_[label].size(); }

  // Forget all parts; searches call it between utterances when there are too many.
  void clear();

 private:
  uint32_t extend_by(uint32_t part, uint32_t code_point);
  double beginning_score(const Part& part, const std::string& text) const;

  const WordLm* lm_;
  WordRules rules_;
  std::vector<CodePoints> labels_;
  std::unordered_map<std::string, double> bonuses_;         // by hotword
  std::unordered_map<std::string, double> beginning_bonuses_;  // by beginning of a hotword
  double largest_bonus_ = 0;
  std::vector<Part> parts_;
  IdMap by_label_{1 << 14};
  IdMap by_code_point_{1 << 14};
};

}  // namespace hlas
