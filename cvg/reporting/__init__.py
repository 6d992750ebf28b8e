"""Pictures, tables and the HTML page that show results to people.

Axes of tensors in this package: S guided steps, L tapped layers, A attention heads, K entity slots, F frames (of a
video or of latents), H and W rows and columns, C colours; B samples and R relations of all samples together.
"""
