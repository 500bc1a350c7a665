/* rows.h - the unit rows of a block as the tensors of a Hugging Face folder, and back. */
#ifndef POL_REPAIR_ROWS_H
#define POL_REPAIR_ROWS_H

#include "core/model/source.h"
#include "core/model/weights.h"

/* The tensors that a matrix part is made of, in the order in which files have them; how many. */
enum { POL_PART_TENSORS = 3 };
int pol_part_tensors(pol_part part, pol_tensor_kind out[POL_PART_TENSORS]);

/* Elements of one unit of a matrix part. */
int64_t pol_part_unit(const pol_config *c, pol_part part);

/* rows [units, unit of the part] to a tensor of as many units; and into rows what a tensor has of them. */
void pol_rows_to_tensor(const pol_config *c, pol_tensor_kind kind, const float *rows, int64_t units, float *tensor);
void pol_rows_from_tensor(const pol_config *c, pol_tensor_kind kind, const float *tensor, int64_t units, float *rows);

#endif
