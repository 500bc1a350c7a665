/* task_template.c - the prompts of lm-evaluation-harness, from records as llm-foundry wrote them. */
#include <string.h>

#include "core/base/base.h"
#include "pollard/task.h"

static const pol_task_template templates[] = {
    {"piqa", "", "\nAnswer:", true, "Question: GOAL, newline, Answer:"},
    {"openbookqa", "", NULL, true, "the beginning of a sentence, or a question"},
    {"winogrande", "", NULL, false, "a sentence with either name in it, up to there"},
    {"arc_easy", "", "\nAnswer:", true, "Question: QUESTION, newline, Answer:"},
    {"boolq", "Passage: ", "\nAnswer:", false, "PASSAGE, newline, Question: QUESTION, newline, Answer:"},
    {"plain", "", NULL, true, "the query as it is"},
};

const pol_task_template *pol_task_template_at(int64_t i)
{
    return i >= 0 && i < (int64_t)POL_COUNT(templates) ? &templates[i] : NULL;
}

const pol_task_template *pol_task_template_find(const char *name)
{
    for (size_t i = 0; i < POL_COUNT(templates); i++)
        if (!strcmp(templates[i].name, name))
            return &templates[i];
    return NULL;
}
