// The C interface that hlas.decode.core calls through ctypes. Nothing here is safe for two threads at once.
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "search.hpp"

#define HLAS_API extern "C" __attribute__((visibility("default")))

namespace {

using namespace hlas;

thread_local std::string last_error;

struct Session {
  std::unique_ptr<Parts> parts;
  std::unique_ptr<Search> search;
  Frames frames;
  uint32_t columns;
  double token_min_logp;
  std::vector<Result> results;
};

template <class Value, class Body>
Value guarded(Value failed, Body body) {
  try {
    return body();
  } catch (const std::exception& error) {
    last_error = error.what();
    return failed;
  }
}

std::vector<std::string> split_at_zero(const char* text, int64_t bytes) {
  std::vector<std::string> out;
  for (const char* end = text + bytes; text < end; text += out.back().size() + 1) out.emplace_back(text);
  return out;
}

const char kWordStart[] = "\xE2\x96\x81";  // U+2581, SentencePiece's mark

}  // namespace

// The layout is repeated in hlas.decode.core.
struct HlasSearchOptions {
  double beam_prune_logp;
  double token_min_logp;
  double unk_score_offset;
  uint32_t width;
  uint32_t prune_history;  // 0 or 1
  uint32_t subwords;       // 0: characters with ' ' among them, 1: pieces with U+2581
};

HLAS_API const char* hlas_search_error() { return last_error.c_str(); }

// words: UTF-8, each ended by '\n'. Null where the model cannot be read.
HLAS_API void* hlas_search_open_lm(const char* path, const char* words, int64_t bytes) {
  return guarded<void*>(nullptr, [&]() -> void* {
    return new WordLm(path, std::string(words, static_cast<size_t>(bytes)));
  });
}

HLAS_API void hlas_search_close_lm(void* lm) { delete static_cast<WordLm*>(lm); }

// labels: without the blank, each ended by a zero byte; hotwords likewise. lm may be null; it must outlive the session.
HLAS_API void* hlas_search_open(const void* lm, const char* labels, int64_t label_bytes, const char* hotwords,
                                int64_t hotword_bytes, const double* hotword_weights,
                                const HlasSearchOptions* options) {
  return guarded<void*>(nullptr, [&]() -> void* {
    const WordLm* model = static_cast<const WordLm*>(lm);
    std::vector<Kind> kinds;
    std::vector<CodePoints> texts;
    for (const std::string& label : split_at_zero(labels, label_bytes)) {
      const bool starts = options->subwords && label.rfind(kWordStart, 0) == 0;
      const bool space = !options->subwords && label == " ";
      kinds.push_back(starts ? Kind::starts_word : space ? Kind::space : Kind::continues);
      texts.push_back(space ? CodePoints() : code_points(starts ? label.substr(sizeof(kWordStart) - 1) : label));
    }
    kinds.push_back(Kind::blank);
    texts.emplace_back();
    WordRules rules;
    rules.unk_score_offset = options->unk_score_offset;
    for (const std::string& word : split_at_zero(hotwords, hotword_bytes))
      rules.hotwords.emplace_back(word, hotword_weights[rules.hotwords.size()]);
    std::unique_ptr<Session> session(new Session);
    session->columns = static_cast<uint32_t>(kinds.size());
    session->token_min_logp = options->token_min_logp;
    session->parts.reset(new Parts(model, std::move(rules), std::move(texts)));
    const Options beam{options->width, options->beam_prune_logp, options->prune_history != 0,
                       model ? model->model().Order() : 1u};
    session->search.reset(
        new Search(model, session->parts.get(), std::move(kinds), options->unk_score_offset, beam));
    return session.release();
  });
}

HLAS_API void hlas_search_close(void* session) { delete static_cast<Session*>(session); }

// data: (frames, columns) in C order, floats of 2, 4 or 8 bytes. Returns -1, the number of a frame that is no
// distribution, or -2 for any other error.
HLAS_API int64_t hlas_search_load(void* handle, const void* data, int64_t frames, uint32_t float_bytes) {
  Session* session = static_cast<Session*>(handle);
  return guarded<int64_t>(-2, [&]() -> int64_t {
    try {
      session->frames.load(data, frames, session->columns, static_cast<Float>(float_bytes), session->token_min_logp);
    } catch (const BadFrame& bad) {
      return bad.frame;
    }
    return -1;
  });
}

// Searches the frames that were loaded. Returns the number of results, -1 for an error.
HLAS_API int64_t hlas_search_run(void* handle, double alpha, double beta, int64_t nbest) {
  Session* session = static_cast<Session*>(handle);
  return guarded<int64_t>(-1, [&]() -> int64_t {
    session->results = session->search->run(session->frames, {alpha, beta}, static_cast<size_t>(nbest));
    return static_cast<int64_t>(session->results.size());
  });
}

// One result: scores[0] is the acoustic score, scores[1] that with the LM; the text's words have two times each.
// All pointers are good until the next run.
HLAS_API const char* hlas_search_result(void* handle, int64_t index, double* scores, const int32_t** times,
                                        int64_t* words) {
  const Result& result = static_cast<Session*>(handle)->results[static_cast<size_t>(index)];
  scores[0] = result.logit_score;
  scores[1] = result.lm_score;
  *times = result.times.data();
  *words = static_cast<int64_t>(result.times.size() / 2);
  return result.text.c_str();
}
