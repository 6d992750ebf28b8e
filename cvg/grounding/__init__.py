"""What is read off a generator about where a prompt's entities are.

Axes, in the names of tensors here:

    B  prompts of a batch                  L  tapped layers
    E  entities of a prompt                A  attention heads
    R  relations of all prompts together   T  text keys
    K  entity slots of a relation          N  video tokens
    F H W  a volume's frames, rows and columns (of tokens, where the generator made it)
    D  width of an attention head
    P  attention problems of a sample: its frames where these read the prompt one by one, else 1
"""
