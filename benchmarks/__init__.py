# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""What Ear and others find, and what they cost. Run its modules from the repository: ``python -m benchmarks.run``."""
