/* pollard.h - the whole public API. json.h stands apart: it needs jansson. */
#ifndef POLLARD_POLLARD_H
#define POLLARD_POLLARD_H

#include "pollard/allocation.h"
#include "pollard/bench.h"
#include "pollard/config.h"
#include "pollard/context.h"
#include "pollard/data.h"
#include "pollard/cost.h"
#include "pollard/device.h"
#include "pollard/eval.h"
#include "pollard/export.h"
#include "pollard/learn.h"
#include "pollard/mask.h"
#include "pollard/memory.h"
#include "pollard/model.h"
#include "pollard/objective.h"
#include "pollard/pilot.h"
#include "pollard/repair.h"
#include "pollard/run.h"
#include "pollard/score.h"
#include "pollard/source.h"
#include "pollard/status.h"
#include "pollard/task.h"
#include "pollard/tokenizer.h"
#include "pollard/version.h"

#endif
