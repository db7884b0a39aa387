// CTC prefix beam search with a word n-gram model: the search of pyctcdecode 0.5, its scores, its pruning.
//
// A prefix is (complete words, beginning of the next word); a beam is a prefix and the label it ends in. pyctcdecode
// makes every (label, beam) pair, merges those that are the same beam, scores all and keeps the best. Here beams of
// one prefix are summed first, a pair whose score cannot reach the beams that are kept is never made, and the LM is
// asked only for those that can.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "frames.hpp"
#include "texts.hpp"

namespace hlas {

struct Options {
  uint32_t width;
  double beam_prune_logp;
  bool prune_history;
  unsigned lm_order;  // 1 without an LM
};

enum class Kind : uint8_t { continues, starts_word, space, blank };  // what a label does to a prefix

struct Times {  // of a complete word, in frames
  uint32_t before;  // the word before it, kNone for the first
  int32_t start;
  int32_t end;
};

struct Result {
  std::string text;
  double logit_score;
  double lm_score;
  std::vector<int32_t> times;  // start and end of each word, in frames
};

class Search {
 public:
  Search(const WordLm* lm, Parts* parts, std::vector<Kind> kinds, double unk_score_offset, Options options);

  // The best texts, best first; at least one.
  std::vector<Result> run(const Frames& frames, Weights weights, size_t nbest);

 private:
  struct Beam {
    uint32_t text;
    uint32_t part;
    uint32_t label;  // the last one, kNone at the start
    double logit;    // log p(acoustic)
    double extra;    // LM, bonuses, beginning of a word
    uint32_t times;  // of the last complete word
    int32_t start;   // of the beginning of a word, -1 where there is none
    int32_t end;
    uint32_t next;   // the next beam of the prefix
    double score() const { return logit + extra; }
  };

  struct Prefix {
    uint32_t text;
    uint32_t part;
    uint32_t first;    // its best beam
    uint32_t partner;  // a prefix that becomes the same one when a word starts, kNone mostly
    double total;      // log p(acoustic) of all its beams
  };

  struct Candidate {
    double score;
    double logit;
    double extra;
    uint64_t order;  // pyctcdecode's: by label, then by the first beam that leads here; decides between equals
    uint32_t text;
    uint32_t part;
    uint32_t label;
    uint32_t from;  // that first beam: word times are continued from it
  };

  struct Sum {
    double logit;
    uint32_t first;  // beam, kNone for an empty sum
  };

  void step(const Tried* begin, const Tried* end, int32_t frame);
  void group();
  void repeat(const Tried* begin, const Tried* end);
  void extend(const Tried* begin, const Tried* end);
  void extend_prefix(uint32_t prefix, size_t column, const Tried& tried);
  void select(int32_t frame);
  void forget_dropped_history();
  void add(const Candidate& candidate);
  void shrink();
  Beam next_beam(const Candidate& candidate, int32_t frame);
  Sum sum_without(uint32_t prefix, uint32_t label, Sum sum) const;
  void sources(const Beam& beam, uint32_t found[2]) const;
  std::vector<Result> finish(size_t nbest);
  Result result(uint32_t text, uint32_t times, double logit, double score) const;
  void collect_garbage();

  Parts* parts_;
  std::vector<Kind> kinds_;
  Options options_;
  Texts texts_;
  std::vector<Beam> beams_;
  std::vector<Times> times_;
  uint32_t collect_at_ = 0;

  // of one frame
  std::vector<Prefix> prefixes_;
  IdMap prefix_ids_{1 << 10};
  std::vector<Candidate> candidates_;
  std::vector<uint32_t> columns_;  // by label: its place among the tried ones, kNone if it is not tried
  std::vector<uint8_t> done_;      // (prefix, tried label): its sum went into a repeated label already
  std::vector<uint32_t> by_logp_;
  double floor_ = 0;               // candidates below are never kept
  double best_ = 0;
  std::vector<Beam> next_beams_;
  IdMap seen_histories_{1 << 10};
};

}  // namespace hlas
